// SPDX-License-Identifier: GPL-3.0-or-later
// No exception passes through libuv, through another object's events or out of a thread: whoever is called
// from there runs its work through here, and says what becomes of it when there is no memory.
#pragma once

#include <exception>
#include <new>

namespace postern::proxy {

/// Should `work` throw, `lost` is told why, as a clause for the log. It must do without memory.
template <class Work, class Lost>
void guarded(Work&& work, Lost&& lost) noexcept {
  try {
    work();
  } catch (const std::bad_alloc&) {
    lost("out of memory");
  } catch (const std::exception& error) {
    lost(error.what());
  }
}

/// For what may be left undone. False: it was.
template <class Work>
bool best_effort(Work&& work) noexcept {
  bool done = true;
  guarded(work, [&done](const char*) { done = false; });
  return done;
}

}  // namespace postern::proxy
