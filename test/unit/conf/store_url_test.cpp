// SPDX-License-Identifier: GPL-3.0-or-later
// URLs of account stores: every form that is documented, and a message of its own for every mistake.
#include "conf/store_url.hpp"

#include <string>

#include "test/unit/conf/fixture.hpp"

namespace postern::conf {
namespace {

/// What was understood, on one line.
std::string told(const Result<RedisUrl>& url) {
  if (!url) return "! " + url.error().text;
  std::string out;
  for (const auto& host : url->hosts) out += host.name + ":" + std::to_string(host.port) + " ";
  if (url->tls) out += "tls ";
  if (!url->user.empty()) out += "user=" + url->user + " ";
  if (!url->password.empty()) out += "password=" + std::string(url->password.reveal()) + " ";
  if (!url->service.empty()) out += "service=" + url->service + " ";
  if (!url->path.empty()) out += "path=" + url->path + " ";
  return out + "db=" + std::to_string(url->database);
}
std::string told(const Result<SqlUrl>& url) {
  if (!url) return "! " + url.error().text;
  std::string out;
  for (const auto& host : url->hosts) out += host.name + ":" + std::to_string(host.port) + " ";
  if (!url->user.empty()) out += "user=" + url->user + " ";
  if (!url->password.empty()) out += "password=" + std::string(url->password.reveal()) + " ";
  if (!url->path.empty()) out += "path=" + url->path + " ";
  for (const auto& [name, value] : url->parameters) out += name + "=" + value + " ";
  return out + "db=" + url->database;
}

struct Row {
  std::string url, expected;  // "! ..." is how the message begins
};

template <class Parse>
void check(const std::vector<Row>& rows, Parse parse) {
  for (const auto& row : rows) {
    CAPTURE(row.url);
    const std::string got = told(parse(row.url));
    CAPTURE(got);
    CHECK((row.expected.starts_with("!") ? got.starts_with(row.expected) : got == row.expected));
  }
}

}  // namespace

TEST_CASE("URLs of Redis") {
  check(
      {
          {"redis://cache", "cache:6379 db=0"},
          {"REDIS://cache:7000/", "cache:7000 db=0"},
          {"rediss://cache.example/15", "cache.example:6379 tls db=15"},
          {"redis://:s3cret@10.0.0.1:6380/2", "10.0.0.1:6380 password=s3cret db=2"},
          {"redis://postern:p%40ss%2Fw%3Ard@[2001:DB8::1]:6380",
           "2001:db8::1:6380 user=postern password=p@ss/w:rd db=0"},
          {"redis://postern@cache", "cache:6379 user=postern db=0"},
          {"redis://user:with:colon@cache", "cache:6379 user=user password=with:colon db=0"},
          {"redis+sentinel://s1,s2:26380,[::1]/mymaster",
           "s1:26379 s2:26380 ::1:26379 service=mymaster db=0"},
          {"rediss+sentinel://u:p@s1/my%20master/3", "s1:26379 tls user=u password=p service=my master db=3"},
          {"redis+unix:///run/redis/redis.sock", "path=/run/redis/redis.sock db=0"},
          {"redis+unix://u:p@/run/redis.sock?db=4", "user=u password=p path=/run/redis.sock db=4"},
          {"", "! is empty"},
          {"cache:6379", "! is no URL"},
          {"http://cache", "! begins with none of redis://"},
          {"rediss+unix:///x", "! begins with none of"},
          {"redis://", "! names no host"},
          {"redis://:6379", "! names no host"},
          {"redis://cache:", "! the port is no number"},
          {"redis://cache:0", "! the port is no number"},
          {"redis://cache:65536", "! the port is no number"},
          {"redis://cache:6379/x", "! the database of Redis is a number"},
          {"redis://cache/1/2", "! the database of Redis is a number"},
          {"redis://cache/-1", "! the database of Redis is a number"},
          {"redis://a,b", "! names several hosts"},
          {"redis://a b", "! has a space"},
          {"redis://a\n", "! has a space"},
          {"redis://under_score!", "! has a host that is no host name"},
          {"redis://300.1.1.1", "! has a host that is no host name"},
          {"redis://::1", "! has a host with several colons"},
          {"redis://[::1", "! has a [ without its ]"},
          {"redis://[cache]", "! what stands in [ ]"},
          {"redis://[::1]x", "! something stands between ] and the port"},
          {"redis://u:pa/ss@cache", "! has an @ behind its host"},
          {"redis://u:pa?ss@cache", "! has an @ behind its host"},
          {"redis://u:p@ss@cache", "! has more than one @"},
          {"redis://u:p#ss@cache", "! has a #"},
          {"redis://u:100%@cache", "! the name or password has a %"},
          {"redis://u:%00@cache", "! the name or password has a %"},
          {"redis://cache?db=1", "! takes nothing behind a ?"},
          {"redis://%2Frun%2Fredis.sock", "! has a path for a host"},
          {"redis+sentinel://s1", "! names no service"},
          {"redis+sentinel://s1/", "! names no service"},
          {"redis+sentinel:///mymaster", "! names no host"},
          {"redis+sentinel://s1,/mymaster", "! names no host"},
          {"redis+sentinel://1,2,3,4,5,6,7,8,9,0,a,b,c,d,e,f,g/m", "! has a host that is no host name"},
          {"redis+sentinel://a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a/m", "! names more than 16 hosts"},
          {"redis+unix://run/redis.sock", "! names a host"},
          {"redis+unix://", "! needs the path"},
          {"redis+unix:///" + std::string(107, 'x'), "! needs the path"},
          {"redis+unix:///x?d=1", "! has an unknown word behind ?: \"d\"; did you mean db?"},
          {"redis+unix:///x?db", "! has something behind ? that is not name=value"},
          {"redis+unix:///x?db=1&db=2", "! says db twice"},
          {"redis://" + std::string(4096, 'a'), "! is longer than 4096"},
      },
      parse_redis_url);
}

TEST_CASE("URLs of SQL databases") {
  check(
      {
          {"postgres://db/mail", "db:5432 db=mail"},
          {"postgresql://u:p%25@h1:6432,[::1],h3/"
           "mail?target_session_attrs=prefer-standby&sslmode=verify-full",
           "h1:6432 ::1:5432 h3:5432 user=u password=p% target_session_attrs=prefer-standby "
           "sslmode=verify-full "
           "db=mail"},
          {"postgres:///mail?host=/run/postgresql&port=5433&user=u", "/run/postgresql:5433 user=u db=mail"},
          {"postgres://%2Frun%2Fpostgresql/mail", "/run/postgresql:5432 db=mail"},
          {"postgres://?host=a,b&port=1,2&dbname=x&password=y", "a:1 b:2 password=y db=x"},
          {"postgres://", "db="},
          {"mysql://u:p@db/mail", "db:3306 user=u password=p db=mail"},
          {"mariadb://u@[::1]:3307/mail?ssl-mode=VERIFY_IDENTITY&ssl-ca=/etc/ca.pem",
           "::1:3307 user=u ssl-mode=verify_identity ssl-ca=/etc/ca.pem db=mail"},
          {"mysql://u@localhost/mail?socket=/run/mysqld/mysqld.sock",
           "user=u path=/run/mysqld/mysqld.sock db=mail"},
          {"sqlite:///var/lib/mail/accounts.db", "path=/var/lib/mail/accounts.db db="},
          {"sqlite://accounts.db", "path=accounts.db db="},
          {"sqlite:///a%20b%40c", "path=/a b@c db="},
          {"redis://db", "! begins with none of postgres://"},
          {"db/mail", "! is no URL"},
          {"postgres://db:x/mail", "! the port is no number"},
          {"postgres://a,b/mail?port=1,2,3", "! port needs one number"},
          {"postgres://a/mail?port=x", "! port is no number"},
          {"postgres:///mail?port=1", "! gives a port but no host"},
          {"postgres://a/mail?host=b", "! names its hosts twice"},
          {"postgres://a/mail?dbname=b", "! names its database or its user twice"},
          {"postgres://u@a/mail?user=b", "! names its database or its user twice"},
          {"postgres://u:p@a/mail?password=b", "! has a password twice"},
          {"postgres://a/mail?hostaddr=1.2.3.4", "! has an unknown word behind ?: \"hostaddr\""},
          {"postgres://a/mail?ssl_mode=require",
           "! has an unknown word behind ?: \"ssl_mode\"; did you mean sslmode?"},
          {"postgres://a/mail?sslmode=full", "! sslmode is one of"},
          {"postgres://a/mail?target_session_attrs=master", "! target_session_attrs is one of"},
          {"postgres://a/dbname=x%20host=y", "! the name of the database holds"},
          {"postgres://a/mail?host=/", "! names its hosts twice"},
          {"postgres:///mail?host=/", "! the directory of a Unix socket"},
          {"mysql://db", "! names no database"},
          {"mysql://db/a/b", "! names no database"},
          {"mysql:///mail", "! names no host"},
          {"mysql://a,b/mail", "! names several hosts"},
          {"mysql://db/mail?socket=/run/x", "! names a host and a socket"},
          {"mysql:///mail?socket=x", "! socket needs the path"},
          {"mysql://db/mail?ssl-mode=maybe", "! ssl-mode is one of"},
          {"mysql://db/mail?ssl-ca=", "! ssl-ca needs the path"},
          {"mysql://db/mail?ssl-cert=/x", "! ssl-cert and ssl-key go together"},
          {"sqlite://", "! names no file"},
          {"sqlite:///dir/", "! names no file"},
          {"sqlite://:memory:", "! a database in memory"},
          {"sqlite://u@/x", "! a file has no user"},
          {"sqlite:///x?mode=ro", "! takes nothing behind a ?"},
          {"sqlite:///x@y", "! has an @ behind its host"},
          {"sqlite:///x%0", "! the path has a %"},
      },
      parse_sql_url);
}

TEST_CASE("no message repeats a part of a password, however the URL is broken") {
  const std::string secret = "Zx9q";
  for (const char* scheme : {"redis://", "redis+sentinel://", "redis+unix://", "postgres://", "mysql://",
                             "sqlite://", "nonsense://", ""})
    for (const char* mark :
         {"/", "?", "#", "@", ":", "%", "[", "]", ",", " ", "&", "=", "?a=", "&b=", "/?", "%2", "%00"})
      for (const char* tail : {"@host/db", "@host", "@", "@host/db?x=y", "@host:port/db"}) {
        const std::string url = scheme + ("u:" + secret) + mark + secret + tail;
        CAPTURE(url);
        const auto redis = parse_redis_url(url);
        if (!redis) CHECK(redis.error().text.find(secret) == std::string::npos);
        const auto sql = parse_sql_url(url);
        if (!sql) CHECK(sql.error().text.find(secret) == std::string::npos);
      }
}

}  // namespace postern::conf
