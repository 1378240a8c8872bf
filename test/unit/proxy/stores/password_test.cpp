// SPDX-License-Identifier: GPL-3.0-or-later
// Files with a password in them.
#include "proxy/stores/password.hpp"

#include "test/unit/proxy/stores/world.hpp"

using namespace postern::proxy;

TEST_CASE("a password is the first line of a small regular file") {
  const test::Folder folder;
  CHECK(read_password(folder.write("a", "s3cret\n"))->reveal() == "s3cret");
  CHECK(read_password(folder.write("a", "with space \r\nsecond line\n"))->reveal() == "with space ");
  CHECK(read_password(folder.write("a", "no end"))->reveal() == "no end");
  CHECK(read_password(folder.write("a", "\n")).error().text == "password_file: is empty");
  CHECK(read_password(folder.write("a", std::string("a\0b", 3))).error().text ==
        "password_file: holds a NUL");
  CHECK(read_password(folder.write("a", std::string(5000, 'x'))).error().text ==
        "password_file: is larger than 4 KiB");
  CHECK(read_password(folder.path, "sentinel_password_file").error().text ==
        "sentinel_password_file: is no regular file");
  CHECK(read_password(folder / "missing").error().text == "password_file: No such file or directory");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(read_password(folder / "pipe").error().text == "password_file: is no regular file");
}
