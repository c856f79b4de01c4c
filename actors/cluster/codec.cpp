#include "actors/cluster/message.hpp"

#include <concepts>
#include <cstring>
#include <type_traits>
#include <utility>

namespace bitnet::actors::cluster {

namespace {

// Little-endian integers, texts with a 32-bit length, sequences with a 32-bit count. One function a type
// names its fields; writer and reader both walk them.

class writer {
 public:
  static constexpr bool writes = true;
  std::string out;

  template <std::unsigned_integral T>
  void operator()(const T& x) {
    for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>((x >> (8 * i)) & 0xFFU);
  }
  void operator()(const bool& x) { (*this)(static_cast<std::uint8_t>(x)); }
  void operator()(const std::string& x) {
    (*this)(static_cast<std::uint32_t>(x.size()));
    out += x;
  }
  void operator()(const node_id& x) { out.append(reinterpret_cast<const char*>(x.bytes.data()), 16); }
};

class reader {
 public:
  static constexpr bool writes = false;
  explicit reader(std::string_view bytes) : rest_(bytes) {}

  bool ok() const noexcept { return ok_; }
  std::size_t left() const noexcept { return rest_.size(); }
  void fail() noexcept { ok_ = false; }

  template <std::unsigned_integral T>
  void operator()(T& x) {
    const auto bytes = take(sizeof(T));
    x = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      x = static_cast<T>(x | (static_cast<T>(static_cast<std::uint8_t>(bytes[i])) << (8 * i)));
  }
  void operator()(bool& x) {
    std::uint8_t byte = 0;
    (*this)(byte);
    x = byte != 0;
  }
  void operator()(std::string& x) {
    std::uint32_t size = 0;
    (*this)(size);
    x = take(size);
  }
  void operator()(node_id& x) {
    const auto bytes = take(16);
    if (bytes.size() == 16) std::memcpy(x.bytes.data(), bytes.data(), 16);
  }

 private:
  std::string_view take(std::size_t n) {
    if (!ok_ || n > rest_.size()) {
      ok_ = false;
      return {};
    }
    const auto taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

template <class F, class... Ts>
void each(F& f, Ts&... fields) {
  (f(fields), ...);
}

// `X` is const for the writer.
template <class F, class X>
requires std::same_as<std::remove_const_t<X>, node_description>
void fields(F& f, X& x) {
  each(f, x.id, x.protocol_min, x.protocol_max, x.model_hash, x.capacity, x.model, x.build, x.address);
}

template <class F, class X>
requires std::same_as<std::remove_const_t<X>, member_record>
void fields(F& f, X& x) {
  if constexpr (F::writes) {
    fields(f, *x.node);
    each(f, x.incarnation, x.dead);
    f(static_cast<std::uint8_t>(x.declared));
  } else {
    auto node = std::make_shared<node_description>();
    fields(f, *node);
    if (node->model.size() > max_text_bytes || node->build.size() > max_text_bytes ||
        node->address.size() > max_text_bytes)
      f.fail();
    x.node = std::move(node);
    each(f, x.incarnation, x.dead);
    std::uint8_t declared = 0;
    f(declared);
    if (declared > static_cast<std::uint8_t>(declaration::left)) f.fail();
    x.declared = static_cast<declaration>(declared);
  }
}

template <class F, class X>
requires std::same_as<std::remove_const_t<X>, worker_load>
void fields(F& f, X& x) {
  each(f, x.worker, x.incarnation, x.capacity, x.running, x.queued, x.streams, x.kv_blocks_used,
       x.kv_blocks_total);
}

template <class F, class X>
requires std::same_as<std::remove_const_t<X>, stream_alive::entry>
void fields(F& f, X& x) {
  each(f, x.stream, x.attempt, x.next_seq);
}

template <class F, class Xs>
void sequence(F& f, Xs& xs) {
  if constexpr (F::writes) {
    f(static_cast<std::uint32_t>(xs.size()));
    for (const auto& x : xs) fields(f, x);
  } else {
    std::uint32_t size = 0;
    f(size);
    // An element takes 16 bytes at least: what the count promises must be there before memory is.
    if (size > f.left() / 16) return f.fail();
    xs.resize(size);
    for (auto& x : xs) {
      if (!f.ok()) return;
      fields(f, x);
    }
  }
}

template <class F, class X>
void fields_of_message(F& f, X& x) {
  using T = std::remove_const_t<X>;
  if constexpr (std::same_as<T, ping>) {
    each(f, x.seq, x.digest);
    sequence(f, x.workers);
  } else if constexpr (std::same_as<T, ack>) {
    each(f, x.seq, x.digest);
  } else if constexpr (std::same_as<T, probe_request> || std::same_as<T, probe_answer>) {
    f(x.target);
  } else if constexpr (std::same_as<T, gossip>) {
    sequence(f, x.members);
    each(f, x.full, x.reply);
  } else if constexpr (std::same_as<T, stream_submit>) {
    each(f, x.stream, x.attempt, x.worker, x.incarnation, x.credit, x.request);
  } else if constexpr (std::same_as<T, stream_accept> || std::same_as<T, stream_cancel>) {
    each(f, x.stream, x.attempt);
  } else if constexpr (std::same_as<T, stream_refuse>) {
    each(f, x.stream, x.attempt, x.code, x.why);
  } else if constexpr (std::same_as<T, stream_frame>) {
    each(f, x.stream, x.attempt, x.seq, x.tokens, x.last, x.payload);
  } else if constexpr (std::same_as<T, stream_credit>) {
    each(f, x.stream, x.attempt, x.total);
  } else {
    static_assert(std::same_as<T, stream_alive>);
    sequence(f, x.streams);
  }
}

template <std::size_t I = 0>
std::optional<message> decode_as(std::size_t index, reader& f) {
  if constexpr (I == std::variant_size_v<message>) {
    return std::nullopt;
  } else {
    if (index != I) return decode_as<I + 1>(index, f);
    std::variant_alternative_t<I, message> x;
    fields_of_message(f, x);
    if (!f.ok()) return std::nullopt;
    return message(std::in_place_index<I>, std::move(x));
  }
}

}  // namespace

std::string encode(const message& m) {
  writer f;
  f(static_cast<std::uint8_t>(m.index()));
  std::visit([&f](const auto& x) { fields_of_message(f, x); }, m);
  return std::move(f.out);
}

std::optional<message> decode(std::string_view bytes) {
  if (bytes.size() > max_message_bytes) return std::nullopt;
  reader f(bytes);
  std::uint8_t index = 0;
  f(index);
  if (!f.ok()) return std::nullopt;
  return decode_as(index, f);
}

std::string encode_hello(const member_record& own) {
  writer f;
  fields(f, own);
  return std::move(f.out);
}

std::optional<hello> decode_hello(std::string_view bytes) {
  reader f(bytes);
  member_record own;
  fields(f, own);
  if (!f.ok()) return std::nullopt;
  return hello{*own.node, own.incarnation, own.declared};
}

}  // namespace bitnet::actors::cluster
