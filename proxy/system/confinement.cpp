// SPDX-License-Identifier: GPL-3.0-or-later
// Users, groups, capabilities. Each step is checked by asking the kernel, not by believing a return value.
#include "proxy/system/confinement.hpp"

#include <dlfcn.h>
#include <fmt/core.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "proxy/system/call_filter.hpp"

namespace postern::proxy {
namespace {

constexpr uint32_t low_ports = 1U << CAP_NET_BIND_SERVICE;

struct Capabilities {
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};

  static std::optional<Capabilities> held() {
    Capabilities all;
    __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
    if (::syscall(SYS_capget, &head, all.sets) != 0) return std::nullopt;
    return all;
  }
  /// Of what is permitted only this, and that in effect.
  static bool keep(uint32_t wanted) {
    auto all = held();
    if (!all) return false;
    wanted &= all->sets[0].permitted;
    Capabilities left;
    left.sets[0].permitted = left.sets[0].effective = wanted;
    __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
    return ::syscall(SYS_capset, &head, left.sets) == 0;
  }
};

/// A capability that came with the file, permitted but not in effect, is put into effect.
void use_low_ports() {
  auto all = Capabilities::held();
  if (!all || (all->sets[0].permitted & low_ports) == 0 || (all->sets[0].effective & low_ports) != 0) return;
  all->sets[0].effective |= low_ports;
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  ::syscall(SYS_capset, &head, all->sets);  // if not, the bind says so
}

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value == UINT32_MAX) return std::nullopt;
  return value;
}

struct Identity {
  std::string name;  // empty: a number that no account has
  uid_t uid = 0;
  gid_t gid = 0;
};

conf::Result<Identity> find(const std::string& wanted) {
  const size_t colon = wanted.find(':');
  const std::string user = wanted.substr(0, colon);
  const auto uid = number(user);
  Identity found;
  const passwd* account = uid ? ::getpwuid(*uid) : ::getpwnam(user.c_str());
  if (account)
    found = {account->pw_name, account->pw_uid, account->pw_gid};
  else if (uid && colon != std::string::npos)
    found.uid = *uid;
  else
    return conf::error(fmt::format("no user \"{}\"{}", user, uid ? ": give UID:GID" : ""));
  if (colon != std::string::npos) {
    const std::string group = wanted.substr(colon + 1);
    if (const auto gid = number(group)) {
      found.gid = *gid;
    } else if (const struct group* entry = ::getgrnam(group.c_str())) {
      found.gid = entry->gr_gid;
    } else {
      return conf::error(fmt::format("no group \"{}\"", group));
    }
  }
  if (found.uid == 0) return conf::error("root is nobody to change to");
  return found;
}

conf::Result<void> become(const Identity& who) {
  const auto failed = [&](const char* what) {
    return conf::error(fmt::format("{}: {}", what, std::strerror(errno)));
  };
  if (::geteuid() == who.uid && ::getuid() == who.uid && ::getegid() == who.gid) return {};
  if (::geteuid() != 0) return conf::error("only root can change to another user");
  const int groups = who.name.empty() ? ::setgroups(0, nullptr) : ::initgroups(who.name.c_str(), who.gid);
  if (groups != 0) return failed("groups");
  if (::setresgid(who.gid, who.gid, who.gid) != 0) return failed("group");
  if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return failed("capabilities");
  if (::setresuid(who.uid, who.uid, who.uid) != 0) return failed("user");
  if (!Capabilities::keep(low_ports)) return failed("capabilities");
  if (::setresuid(0, 0, 0) == 0 || ::getuid() != who.uid || ::geteuid() != who.uid)
    return conf::error("root did not go away");
  return {};
}

/// Looking up a name loads the modules that /etc/nsswitch.conf lists for hosts, on the first occasion. Once
/// the filter is there it is too late, so they are loaded now. One that is missing is missed later, as ever.
void load_name_services() {
  std::ifstream file("/etc/nsswitch.conf");
  for (std::string line; std::getline(file, line);) {
    line.resize(std::min(line.size(), line.find('#')));
    std::istringstream words(line);
    std::string word;
    if (!(words >> word) || word != "hosts:") continue;
    while (words >> word) {
      const bool plain = std::ranges::all_of(
          word, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
      if (plain) ::dlopen(("libnss_" + word + ".so.2").c_str(), RTLD_NOW | RTLD_NODELETE);
    }
  }
}

}  // namespace

conf::Result<void> assume_user(const Confinement& wanted) {
  std::optional<Identity> who;
  if (!wanted.user.empty()) {
    auto found = find(wanted.user);
    if (!found) return conf::error("--user: " + found.error().text);
    who = std::move(*found);
  }
  // Nothing is ever executed, so nothing is lost, and no program of another user can be used as a ladder.
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return conf::error(fmt::format("no_new_privs: {}", std::strerror(errno)));
  if (who)
    if (auto became = become(*who); !became) return conf::error("--user: " + became.error().text);
  use_low_ports();
  if (wanted.calls == Confinement::Calls::filtered)
    if (auto refused = refuse_rings(); !refused) return conf::error("--seccomp: " + refused.error().text);
  return {};
}

conf::Result<void> seal(const Confinement& wanted) {
  if (!wanted.user.empty() && !Capabilities::keep(0))
    return conf::error(fmt::format("--user: capabilities: {}", std::strerror(errno)));
  if (wanted.calls == Confinement::Calls::all) return {};
  load_name_services();
  if (auto filtered = filter_calls(wanted.calls == Confinement::Calls::logged); !filtered)
    return conf::error("--seccomp: " + filtered.error().text);
  return {};
}

}  // namespace postern::proxy
