// SPDX-License-Identifier: GPL-3.0-or-later
// Files the configuration leads to: bounded, never a device, and the reason when they cannot be read.
#pragma once

#include <string>

#include "conf/result.hpp"

namespace postern::conf {

/// The whole of a regular file of at most `most` bytes.
Result<std::string> read_file(const std::string& path, size_t most);
/// An open descriptor of a regular file, close-on-exec. The caller closes it.
Result<int> open_file(const std::string& path);
/// What keeps `path` from being read, or empty.
std::string file_fault(const std::string& path);
/// Who besides its owner can read a file that holds a secret, as the end of a sentence; empty if nobody can,
/// or only a group that was chosen for it: another than the owner's own, which is how a daemon is let in
/// (root:ssl-cert, root:postern, the fsGroup of a pod).
std::string exposure(const std::string& path);

}  // namespace postern::conf
