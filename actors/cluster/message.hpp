#pragma once

#include "actors/cluster/member.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

// What nodes say to each other. The order in `message` is the type's number on the wire: append, never
// insert. Decoding ignores bytes after the fields that it knows, so a newer protocol may append fields.

namespace bitnet::actors::cluster {

/// Load of one worker of the sender.
struct worker_load {
  std::uint64_t worker = 0;
  std::uint64_t incarnation = 0;
  std::uint64_t capacity = 0;  ///< sequences that it runs or lets wait
  std::uint64_t running = 0;
  std::uint64_t queued = 0;
  std::uint64_t streams = 0;  ///< accepted and not yet ended
  std::uint64_t kv_blocks_used = 0;
  std::uint64_t kv_blocks_total = 0;

  bool operator==(const worker_load&) const = default;
};

/// Every 500 ms to each neighbour.
struct ping {
  std::uint64_t seq = 0;
  std::uint64_t digest = 0;  ///< of the sender's member map
  std::vector<worker_load> workers;
};
struct ack {
  std::uint64_t seq = 0;
  std::uint64_t digest = 0;
};
/// Please ping `target` for me.
struct probe_request {
  node_id target;
};
/// `target` has just answered me.
struct probe_answer {
  node_id target;
};
/// Members that changed, or with `full` all (in pieces); `reply`: send me all of yours.
struct gossip {
  std::vector<member_record> members;
  bool full = false;
  bool reply = false;
};

/// Gateway to worker's node: continue a sequence. `stream` is the gateway's own number.
struct stream_submit {
  std::uint64_t stream = 0;
  std::uint32_t attempt = 0;
  std::uint64_t worker = 0;
  std::uint64_t incarnation = 0;
  std::uint64_t credit = 0;  ///< tokens that may be sent in all, so far
  std::string request;       ///< serialised
};
struct stream_accept {
  std::uint64_t stream = 0;
  std::uint32_t attempt = 0;
};
struct stream_refuse {
  std::uint64_t stream = 0;
  std::uint32_t attempt = 0;
  std::uint8_t code = 0;  ///< error_code
  std::string why;
};
struct stream_frame {
  std::uint64_t stream = 0;
  std::uint32_t attempt = 0;
  std::uint32_t seq = 0;     ///< counts the frames of an attempt from 0
  std::uint32_t tokens = 0;  ///< in the payload
  bool last = false;
  std::string payload;  ///< serialised
};
/// Tokens that may be sent in all. A total, not an increment, so that a lost or repeated one does no harm.
struct stream_credit {
  std::uint64_t stream = 0;
  std::uint32_t attempt = 0;
  std::uint64_t total = 0;
};
struct stream_cancel {
  std::uint64_t stream = 0;
  std::uint32_t attempt = 0;
};
/// Every 500 ms: the gateway's streams that the sender still has, and how far each is.
struct stream_alive {
  struct entry {
    std::uint64_t stream = 0;
    std::uint32_t attempt = 0;
    std::uint32_t next_seq = 0;
  };
  std::vector<entry> streams;
};

using message = std::variant<ping, ack, probe_request, probe_answer, gossip, stream_submit, stream_accept,
                             stream_refuse, stream_frame, stream_credit, stream_cancel, stream_alive>;

/// Bytes of a message on the wire at most; more would hold up the pings behind it.
inline constexpr std::size_t max_message_bytes = 256 * 1024;
/// Records in one gossip message, whatever their text is: below max_message_bytes.
inline constexpr std::size_t max_gossip_records = 200;
/// Characters of a text in a record.
inline constexpr std::size_t max_text_bytes = 255;

std::string encode(const message& m);
/// Nothing where the bytes are no message that this build knows. Allocates no more than a small multiple of
/// the bytes, whatever they say.
std::optional<message> decode(std::string_view bytes);

/// The first thing that both sides of a link say: the sender's own record.
struct hello {
  node_description node;
  std::uint64_t incarnation = 0;
  declaration declared = declaration::joining;
};
std::string encode_hello(const member_record& own);
std::optional<hello> decode_hello(std::string_view bytes);

}  // namespace bitnet::actors::cluster
