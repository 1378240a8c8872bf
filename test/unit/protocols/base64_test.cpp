// SPDX-License-Identifier: GPL-3.0-or-later
// What passes for base64, and what does not.
#include "protocols/base64.hpp"

#include <doctest/doctest.h>

using namespace postern::protocols;

TEST_CASE("base64 is written padded and read back, whatever the bytes") {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    const std::string text = base64(bytes);
    CHECK(text.size() == (bytes.size() + 2) / 3 * 4);
    CHECK(from_base64(text) == bytes);
    bytes += static_cast<char>(i * 7);
  }
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("\xff\xfe\xfd") == "//79");
}

TEST_CASE("base64 is read with white space and without padding, and with nothing else out of place") {
  struct Row {
    std::string_view text;
    std::optional<std::string> standard, url;
  };
  const std::optional<std::string> bad;
  const Row rows[] = {
      {"", "", ""},
      {"Zg==", "f", "f"},
      {"Zg", "f", "f"},
      {"Zm8=", "fo", "fo"},
      {"Zm8", "fo", "fo"},
      {"Zm9v", "foo", "foo"},
      {" Z\tm\r\n9\vv\f", "foo", bad},
      {"Zg = =", "f", bad},
      {"//79", "\xff\xfe\xfd", bad},
      {"__79", bad, "\xff\xfe\xfd"},
      {"Zh==", "f", "f"},  // bits that count for nothing are not looked at
      {"Z", bad, bad},
      {"Zm9vY", bad, bad},
      {"Zg=", bad, bad},
      {"Zg===", bad, bad},
      {"Zm8==", bad, bad},
      {"Zm9v=", bad, bad},
      {"Zm9v====", bad, bad},
      {"=", bad, bad},
      {"====", bad, bad},
      {"Zg==Zg==", bad, bad},
      {"Z=g=", bad, bad},
      {"!!!!", bad, bad},
      {"Zm9v*", bad, bad},
      {std::string_view("Zm9v\0", 5), bad, bad},
      {"Zm9v\xc3\xa9", bad, bad},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK(from_base64(row.text) == row.standard);
    CHECK(from_base64url(row.text) == row.url);
  }
}
