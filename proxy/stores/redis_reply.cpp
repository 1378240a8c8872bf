// SPDX-License-Identifier: GPL-3.0-or-later
// The library's reader makes objects through functions of ours, which build a RedisReply and refuse what is
// too much: the releases in use differ in what they bound themselves.
#include "proxy/stores/redis_reply.hpp"

#include <hiredis/hiredis.h>

#include <cstdlib>
#include <utility>

#include "conf/secret.hpp"

namespace postern::proxy {
namespace {

/// The place of the object that is being read: the reply, or its place in the list around it. Null: too much.
RedisReply* place(const redisReadTask* task) {
  if (!task->parent) return new RedisReply;
  auto* list = static_cast<RedisReply*>(task->parent->obj);
  if (!list || task->idx < 0 || static_cast<size_t>(task->idx) >= list->items.size()) return nullptr;
  RedisReply* made = &list->items[static_cast<size_t>(task->idx)];
  made->depth = static_cast<uint8_t>(list->depth + 1);
  return made;
}

void drop(const redisReadTask* task, RedisReply* made) {
  if (!task->parent) delete made;
}

void* make_text(const redisReadTask* task, char* data, size_t size) {
  RedisReply* made = place(task);
  if (!made) return nullptr;
  switch (task->type) {
    case REDIS_REPLY_STRING:
      made->kind = RedisReply::Kind::text;
      break;
    case REDIS_REPLY_STATUS:
      made->kind = RedisReply::Kind::status;
      break;
    case REDIS_REPLY_ERROR:
      made->kind = RedisReply::Kind::error;
      break;
    default:  // a newer protocol's, which nobody asked for
      drop(task, made);
      return nullptr;
  }
  made->text.assign(data, size);
  return made;
}

template <class Count>  // int or size_t, by the library's release
void* make_list(const redisReadTask* task, Count count) {
  const auto items = static_cast<size_t>(count);
  RedisReply* made = items <= RedisReader::most_items ? place(task) : nullptr;
  if (!made) return nullptr;
  // The items of all lists are counted in the reader, which hangs on every task.
  auto* left = static_cast<size_t*>(task->privdata);
  if (made->depth >= RedisReader::most_depth || task->type != REDIS_REPLY_ARRAY || !left || items > *left) {
    drop(task, made);
    return nullptr;
  }
  *left -= items;
  made->kind = RedisReply::Kind::list;
  made->items.resize(items);
  return made;
}

void* make_number(const redisReadTask* task, long long value) {
  RedisReply* made = place(task);
  if (!made) return nullptr;
  made->kind = RedisReply::Kind::number;
  made->number = value;
  return made;
}

void* make_nil(const redisReadTask* task) { return place(task); }

void free_reply(void* reply) { delete static_cast<RedisReply*>(reply); }

[[maybe_unused]] void* refuse_double(const redisReadTask*, double, char*, size_t) { return nullptr; }
[[maybe_unused]] void* refuse_bool(const redisReadTask*, int) { return nullptr; }

/// Later releases know more kinds and would make something up for them if nobody takes them.
template <class Functions>
void refuse_more(Functions& functions) {
  if constexpr (requires { functions.createDouble; }) {
    functions.createDouble = refuse_double;
    functions.createBool = refuse_bool;
  }
}

redisReplyObjectFunctions our_functions() {
  redisReplyObjectFunctions functions{};
  functions.createString = make_text;
  functions.createArray = make_list;
  functions.createInteger = make_number;
  functions.createNil = make_nil;
  functions.freeObject = free_reply;
  refuse_more(functions);
  return functions;
}

}  // namespace

struct RedisReader::Impl {
  redisReplyObjectFunctions functions = our_functions();
  redisReader* reader = redisReaderCreateWithFunctions(&functions);
  size_t items_left = most_items;
  bool broken = reader == nullptr;
};

RedisReader::RedisReader() : impl_(std::make_unique<Impl>()) {
  if (impl_->reader) impl_->reader->privdata = &impl_->items_left;
}

RedisReader::~RedisReader() {
  if (!impl_->reader) return;
  redisReaderFree(impl_->reader);
}

bool RedisReader::feed(std::span<const uint8_t> bytes) {
  if (impl_->broken) return false;
  const redisReader& reader = *impl_->reader;
  if (reader.len - reader.pos + bytes.size() > most_bytes ||
      redisReaderFeed(impl_->reader, reinterpret_cast<const char*>(bytes.data()), bytes.size()) != REDIS_OK)
    impl_->broken = true;
  return !impl_->broken;
}

RedisReader::Got RedisReader::next(RedisReply& reply) {
  if (impl_->broken) return Got::broken;
  void* got = nullptr;
  if (redisReaderGetReply(impl_->reader, &got) != REDIS_OK) {
    impl_->broken = true;
    return Got::broken;
  }
  if (!got) return Got::more;
  impl_->items_left = most_items;
  const std::unique_ptr<RedisReply> owned(static_cast<RedisReply*>(got));
  reply = std::move(*owned);
  return Got::reply;
}

void append_command(std::string& out, std::span<const std::string_view> arguments) {
  std::vector<const char*> data;
  std::vector<size_t> sizes;
  data.reserve(arguments.size());
  sizes.reserve(arguments.size());
  for (const std::string_view argument : arguments) {
    data.push_back(argument.data() ? argument.data() : "");
    sizes.push_back(argument.size());
  }
  char* command = nullptr;
  const int size = redisFormatCommandArgv(&command, static_cast<int>(data.size()), data.data(), sizes.data());
  if (size > 0) {
    out.append(command, static_cast<size_t>(size));
    conf::wipe(command, static_cast<size_t>(size));  // it may be AUTH
  }
  std::free(command);
}

}  // namespace postern::proxy
