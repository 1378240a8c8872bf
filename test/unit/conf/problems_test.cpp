// SPDX-License-Identifier: GPL-3.0-or-later
// Problems come all at once, in the order of the file, each on one line with its place; mapping files have
// places of their own.
#include <algorithm>

#include "conf/build/accounts_file.hpp"
#include "test/unit/conf/fixture.hpp"

namespace postern::conf {

TEST_CASE("a file with many mistakes reports every one of them at once, in its order") {
  const Folder folder;
  folder.write("M", "");
  const std::string document = replaced(R"([server]
threads = "two"
bridge_idle = 30
max_conections = 5
[server.socket]
backlog = 0
[server.tls]
certificate = "ghost"
[capabilities.imap]
sasl = ["CRAM-MD5"]
[mapping]
source = "file"
[mapping.file]
path = "@/absent"
[routing]
default_destination = "nowhere"
[destination.legacy]
host = ""
[destination.legacy.protocol.imap]
port = 0
tls = "ssl"
[listener.front]
protocol = "gopher"
bind = ["localhost:143",
        "127.0.0.1:1"]
tls = "plain"
)",
                                        "@", folder.path());
  CHECK(lines_of(load_text("dir/p.toml", document, {}, everything)) ==
        replaced(
            R"(dir/p.toml:2:1: server.threads: must be an integer, not the string "two"
dir/p.toml:3:1: server.bridge_idle: must be a duration such as "30s", not the integer 30
dir/p.toml:4:1: server.max_conections: unknown key; did you mean server.max_connections?
dir/p.toml:6:1: server.socket.backlog: must be between 1 and 2147483647, not 0
dir/p.toml:8:1: server.tls.certificate: "ghost" is not a declared certificate
dir/p.toml:10:9: capabilities.imap.sasl[0]: "CRAM-MD5" is not a known mechanism; must be one of PLAIN, LOGIN, OAUTHBEARER, XOAUTH2
dir/p.toml:14:1: mapping.file.path: "@/absent" cannot be read: No such file or directory
dir/p.toml:16:1: routing.default_destination: "nowhere" is not a declared destination
dir/p.toml:18:1: destination.legacy.host: "" must not be empty
dir/p.toml:20:1: destination.legacy.protocol.imap.port: must be between 1 and 65535, not 0
dir/p.toml:21:1: destination.legacy.protocol.imap.tls: "ssl" is not one of implicit, starttls, plain
dir/p.toml:23:1: listener.front.protocol: "gopher" is not one of imap, pop3, managesieve, submission, smtp, lmtp, http, manageSieve, jmap, https
dir/p.toml:24:9: listener.front.bind[0]: "localhost:143" is not an IP address with a port; host names are not accepted
)",
            "@", folder.path()));
}

TEST_CASE("places: a key that is missing stands where its nearest parent stands") {
  Problems problems("f");
  problems.locate("", {1, 1});
  problems.locate("listener", {3, 1});
  problems.locate("listener.a", {4, 2});
  problems.locate("listener.\"x.y\"", {9, 2});
  CHECK(problems.where("listener.a.bind[3]") == Place{4, 2});
  CHECK(problems.where("listener.b") == Place{3, 1});
  CHECK(problems.where("listener.\"x.y\".bind") == Place{9, 2});
  CHECK(problems.where("nothing.at.all") == Place{1, 1});
  CHECK(Problems("f").where("a") == Place{});
  problems.warn("listener.a", "w");
  CHECK(problems.ok());
  problems.add("listener.a", "e");
  CHECK_FALSE(problems.ok());
  CHECK(problems.all()[1].line() == "f:4:2: listener.a: e");
}

TEST_CASE("lines of a mapping file are judged with their own place (R-39, R-40, R-41)") {
  const Folder folder;
  const std::string path = folder.write("M",
                                        "# comment\n\n  a@example.com\t legacy  ignored\n"
                                        "b@example.com\n"
                                        "c@example.com ghost\r\n"
                                        "d@example.com spare\n"
                                        "e@example.com spare\n"
                                        "f@example.com legacy");
  const std::string document =
      replaced(base_and("[destination.spare]\nhost = \"h\"\n[destination.spare.protocol.pop3]\nport = "
                        "995\ntls = \"implicit\"\n"),
               "@", folder.path());
  const Loaded loaded = load_text("test.toml", document, {}, everything);
  CHECK(lines_of(loaded) ==
        path + ":4:1: mapping.file: a mapping needs an identifier and a destination\n" + path +
            ":5:15: mapping.file: \"ghost\" is not a declared destination\n" + path +
            ":6:15: mapping.file: \"spare\" has no imap leg, but there is a listener for it\n");
}

TEST_CASE("a mapping file full of mistakes is not repeated as a whole") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "a;b\n";
  folder.write("M", text);
  const Loaded loaded =
      load_text("test.toml", replaced(std::string(base_document), "@", folder.path()), {}, everything);
  CHECK(loaded.problems.errors() == 21);
  CHECK(lines_of(loaded).find("and 980 more problems") != std::string::npos);
}

TEST_CASE("a mapping file is the same in pieces of any size") {
  const std::string text =
      "a b\n\n# c\n" + std::string(MappingParser::longest_line + 1, 'x') + " y\n  d\te f\nlast one";
  const auto walk = [&](size_t piece) {
    std::string out;
    const MappingVisitor visitor{
        [&](const MappingLine& line) {
          out += std::to_string(line.number) + std::string(line.identifier) + ">" +
                 std::string(line.destination) + "@" + std::to_string(line.destination_column) + ";";
        },
        [&](int number, std::string_view why) { out += std::to_string(number) + std::string(why) + ";"; }};
    MappingParser parser(visitor);
    for (size_t at = 0; at < text.size(); at += piece) parser.feed(std::string_view(text).substr(at, piece));
    parser.finish();
    return out;
  };
  const std::string whole = walk(text.size());
  CHECK(whole == "1a>b@3;4the line is too long;5d>e@5;6last>one@6;");
  for (const size_t piece : {1u, 2u, 3u, 7u, 4096u}) CHECK(walk(piece) == whole);
}

TEST_CASE("a mapping file that is no regular file is refused, not waited for") {
  const Folder folder;
  const std::string document = replaced(std::string(base_document), "@/M", "/dev/zero");
  CHECK(lines_of(load_text("test.toml", document, {}, everything)).find("it is not a regular file") !=
        std::string::npos);
}

}  // namespace postern::conf
