// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/session/roster.hpp"

#include <utility>

#include "proxy/session/session.hpp"

namespace postern::proxy {

Roster::Roster(Loop& on) : loop(on), probes(on) {
  loop.each_turn([this] { desk.flush(); });
}

void Roster::add(std::unique_ptr<Session> session) {
  Session* added = session.release();  // the list owns it until retire()
  added->next_ = first_;
  if (first_) first_->previous_ = added;
  first_ = added;
}

void Roster::retire(Session& session) noexcept {
  if (session.previous_)
    session.previous_->next_ = session.next_;
  else
    first_ = session.next_;
  if (session.next_) session.next_->previous_ = session.previous_;
  session.next_ = session.previous_ = nullptr;
  loop.bury(std::unique_ptr<Session>(&session));
  look_whether_empty();
}

void Roster::when_empty(std::function<void()> empty) {
  empty_ = std::move(empty);
  look_whether_empty();
}

void Roster::look_whether_empty() noexcept {
  if (!first_ && empty_) std::exchange(empty_, nullptr)();
}

void Roster::cut(Fault fault) noexcept {
  for (Session* at = first_; at;) {
    Session* next = at->next_;  // cut() may retire this one, no other
    at->cut(fault);
    at = next;
  }
}

void Roster::clear() noexcept {
  empty_ = nullptr;
  while (Session* const session = first_) {
    session->cut(Fault::shutdown);
    if (first_ == session) session->drop();
  }
  probes.clear();
  snapshot_.reset();
}

}  // namespace postern::proxy
