// SPDX-License-Identifier: GPL-3.0-or-later
// What the process owes its host: descriptor limits, no core files with secrets in them, and word to the
// service manager.
#pragma once

#include <cstdint>
#include <string>

namespace postern::proxy {

/// Raises the soft limit of descriptors to the hard one; returns what it is now.
uint64_t raise_descriptor_limit();

/// No core file, no debugger of the same user: memory holds keys and passwords. First of all, before anything
/// is read that a crash could write out.
void forbid_core_dumps();
/// Once the configuration is known: allowed after all, as whoever started the process had it, or never.
void settle_core_dumps(bool allowed);

/// Ignores SIGPIPE; a write to a closed socket is an ordinary error.
void ignore_sigpipe();

/// What was freed and lies unused in the heap goes back to the system. A few milliseconds at most if it is
/// called for every few megabytes; other threads wait for it when they allocate.
void give_memory_back();

/// The number of processors this process may run on, at least 1.
unsigned available_cores();

/// sd_notify messages; without a service manager they go nowhere.
namespace service {
void ready();
void reloading();
void stopping(uint64_t grace_ms);  // and how much longer it may take
void status(const std::string& text);
void alive();              // the watchdog's sign of life
uint64_t watchdog_usec();  // how often it is wanted; 0: not at all
}  // namespace service

/// Large blocks, which are tables of accounts, go back to the system when they are freed, however many were
/// freed before. Left to itself the allocator learns from each to keep the next.
void return_large_blocks();

}  // namespace postern::proxy
