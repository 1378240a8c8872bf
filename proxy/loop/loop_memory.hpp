// SPDX-License-Identifier: GPL-3.0-or-later
// libuv ends the process when its table of descriptors cannot grow. Here is seen to it that it can, before a
// descriptor is handed to it.
#pragma once

#include <uv.h>

namespace postern::proxy {

/// Before anything of libuv is used: its memory comes through here.
void provide_loop_memory();
/// Whether the loop of this thread can watch `fd`. What its table needs to grow is put aside first; false:
/// there was no memory for that.
[[nodiscard]] bool can_watch(const uv_loop_t& loop, int fd) noexcept;
/// The loop of this thread has ended.
void release_loop_memory();

}  // namespace postern::proxy
