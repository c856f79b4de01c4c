#include "actors/engine_process/wire.hpp"

#include <utility>

namespace bitnet::actors {

namespace {

constexpr auto last_error_code = engine::error_code::internal;
constexpr auto last_finish_reason = engine::finish_reason::failed;
constexpr auto last_instruction_set = kernels::instruction_set::amx_int8;
constexpr auto last_decode_format = engine::decode_format::two_bit;
constexpr auto last_head_format = kernels::head_matrix::format::f16;

void write(byte_writer& out, const engine::sampling_params& x) {
  [[maybe_unused]] const auto& [temperature, top_p, min_p, top_k, repetition, frequency, presence, seed,
                                biases] = x;
  for (const auto value :
       {x.temperature, x.top_p, x.min_p, x.repetition_penalty, x.frequency_penalty, x.presence_penalty})
    out.put(value);
  out.put(x.top_k);
  out.put(x.seed);
  out.put(static_cast<std::uint32_t>(x.logit_bias.size()));
  for (const auto& [id, bias] : x.logit_bias) {
    out.put(id);
    out.put(bias);
  }
}

void read(byte_reader& in, engine::sampling_params& x) {
  for (auto* value :
       {&x.temperature, &x.top_p, &x.min_p, &x.repetition_penalty, &x.frequency_penalty, &x.presence_penalty})
    *value = in.get<float>();
  x.top_k = in.get<std::uint32_t>();
  x.seed = in.get<std::uint64_t>();
  x.logit_bias.resize(in.get_count(sizeof(engine::token_id) + sizeof(float)));
  for (auto& [id, bias] : x.logit_bias) {
    id = in.get<engine::token_id>();
    bias = in.get<float>();
  }
}

void write(byte_writer& out, const engine::sampled_token& x) {
  out.put(x.id);
  out.put(x.logprob);
  out.put(static_cast<std::uint32_t>(x.top.size()));
  for (const auto& other : x.top) {
    out.put(other.id);
    out.put(other.logprob);
  }
}

void read(byte_reader& in, engine::sampled_token& x) {
  x.id = in.get<engine::token_id>();
  x.logprob = in.get<float>();
  x.top.resize(in.get_count(sizeof(engine::token_id) + sizeof(float)));
  for (auto& other : x.top) {
    other.id = in.get<engine::token_id>();
    other.logprob = in.get<float>();
  }
}

void write(byte_writer& out, const engine::generation_event& x) {
  [[maybe_unused]] const auto& [id, tokens, finish, failure, usage] = x;
  out.put(x.id);
  out.put(static_cast<std::uint32_t>(x.tokens.size()));
  for (const auto& token : x.tokens) write(out, token);
  out.put(x.finish);
  out.put(x.failure.has_value());
  if (x.failure) write(out, *x.failure);
  out.put(x.usage.prompt_tokens);
  out.put(x.usage.completion_tokens);
  out.put(x.usage.cached_tokens);
}

void read(byte_reader& in, engine::generation_event& x) {
  x.id = in.get<engine::request_id>();
  x.tokens.resize(in.get_count(sizeof(engine::token_id) + sizeof(float) + sizeof(std::uint32_t)));
  for (auto& token : x.tokens) read(in, token);
  x.finish = in.get_enum(last_finish_reason);
  if (in.get_bool()) read(in, x.failure.emplace(engine::error{engine::error_code::internal, {}}));
  x.usage.prompt_tokens = in.get<std::uint32_t>();
  x.usage.completion_tokens = in.get<std::uint32_t>();
  x.usage.cached_tokens = in.get<std::uint32_t>();
}

/// Least bytes of an event: id, tokens, finish, failure, usage.
constexpr std::size_t least_event_bytes = 8 + 4 + 1 + 1 + 12;

}  // namespace

bool byte_reader::take(std::size_t bytes) noexcept {
  if (!ok_ || bytes > left_.size()) {
    ok_ = false;
    return false;
  }
  taken_ = left_.data();
  left_ = left_.subspan(bytes);
  return true;
}

bool byte_reader::get_bool() noexcept {
  const auto value = get<std::uint8_t>();
  if (value > 1) ok_ = false;
  return ok_ && value == 1;
}

std::size_t byte_reader::get_count(std::size_t element_bytes) noexcept {
  const std::size_t count = get<std::uint32_t>();
  if (count > left_.size() / element_bytes) ok_ = false;
  return ok_ ? count : 0;
}

std::string byte_reader::get_string() {
  const auto size = get_count(1);
  if (!take(size)) return {};
  return {reinterpret_cast<const char*>(taken_), size};
}

std::vector<std::uint32_t> byte_reader::get_ids() {
  std::vector<std::uint32_t> values(get_count(sizeof(std::uint32_t)));
  if (!values.empty() && take(values.size() * sizeof values[0]))
    std::memcpy(values.data(), taken_, values.size() * sizeof values[0]);
  return values;
}

void write(byte_writer& out, const load_command& x) {
  out.put(x.path);
  out.put(x.file.device);
  out.put(x.file.inode);
  out.put(x.file.size_bytes);
  out.put(x.file.modified_ns);
  out.put(x.threads);
  out.put(x.head);
  out.put(x.screen_head);
  out.put(x.decode);
  out.put(x.isa);
}

void read(byte_reader& in, load_command& x) {
  x.path = in.get_string();
  x.file.device = in.get<std::uint64_t>();
  x.file.inode = in.get<std::uint64_t>();
  x.file.size_bytes = in.get<std::uint64_t>();
  x.file.modified_ns = in.get<std::int64_t>();
  x.threads = in.get<std::uint64_t>();
  x.head = in.get_enum(last_head_format);
  x.screen_head = in.get_bool();
  x.decode = in.get_enum(last_decode_format);
  x.isa = in.get_enum(last_instruction_set);
}

// Names for all members at once, here and below: a member that is added and forgotten here does not compile.

void write(byte_writer& out, const spawn_command& x) {
  [[maybe_unused]] const auto& [device, threads, isa, sequences, queued, kv_bytes, chunk, wait, prefixes,
                                progress, profile] = x.options;
  const auto& o = x.options;
  for (const std::uint64_t value :
       {o.threads, o.max_sequences, o.max_queued, o.kv_cache_bytes, o.prefill_chunk})
    out.put(value);
  out.put(o.isa);
  out.put(o.decode_wait_seconds);
  out.put(o.prefix_cache);
  out.put(x.device);
  out.put(x.faults);
  out.put(x.scrub_bytes_per_second);
  out.put(x.verify);
}

void read(byte_reader& in, spawn_command& x) {
  auto& o = x.options;
  for (auto* value : {&o.threads, &o.max_sequences, &o.max_queued, &o.kv_cache_bytes, &o.prefill_chunk})
    *value = in.get<std::uint64_t>();
  o.isa = in.get_enum(last_instruction_set);
  o.decode_wait_seconds = in.get<double>();
  o.prefix_cache = in.get_bool();
  x.device = in.get_string();
  x.faults = in.get_bool();
  x.scrub_bytes_per_second = in.get<std::uint64_t>();
  x.verify = in.get_bool();
}

void write(byte_writer& out, const corrupt_command& x) {
  out.put(x.region);
  out.put(x.offset);
}

void read(byte_reader& in, corrupt_command& x) {
  x.region = in.get_string();
  x.offset = in.get<std::uint64_t>();
}

void write(byte_writer& out, const exit_report& x) {
  out.put(x.pid);
  out.put(x.status);
}

void read(byte_reader& in, exit_report& x) {
  x.pid = in.get<std::uint32_t>();
  x.status = in.get<std::int32_t>();
}

void write(byte_writer& out, const engine::error& x) {
  out.put(x.code);
  out.put(x.message);
}

void read(byte_reader& in, engine::error& x) {
  x.code = in.get_enum(last_error_code);
  x.message = in.get_string();
}

void write(byte_writer& out, const engine::generation_request& x) {
  [[maybe_unused]] const auto& [id, prompt, emitted, most, sampling, stops, top, logprobs, schema, priority,
                                client] = x;
  out.put(x.id);
  out.put(x.prompt);
  out.put(x.emitted);
  out.put(x.max_tokens);
  write(out, x.sampling);
  out.put(x.stop_tokens);
  out.put(x.top_logprobs);
  out.put(x.want_logprobs);
  out.put(x.json_schema);
  out.put(x.priority);
  out.put(x.client);
}

void read(byte_reader& in, engine::generation_request& x) {
  x.id = in.get<engine::request_id>();
  x.prompt = in.get_ids();
  x.emitted = in.get_ids();
  x.max_tokens = in.get<std::uint32_t>();
  read(in, x.sampling);
  x.stop_tokens = in.get_ids();
  x.top_logprobs = in.get<std::uint32_t>();
  x.want_logprobs = in.get_bool();
  x.json_schema = in.get_string();
  x.priority = in.get<std::int32_t>();
  x.client = in.get<std::uint64_t>();
}

void write(byte_writer& out, const engine::generation_stats& x) {
  [[maybe_unused]] const auto& [running, queued, kv_total, kv_used, prompt, cached, preemptions, generated,
                                steps, failed, seconds] = x;
  for (const std::uint64_t value :
       {x.running, x.queued, x.kv_blocks_total, x.kv_blocks_used, x.prompt_tokens, x.cached_tokens,
        x.preemptions, x.generated_tokens, x.steps, x.failed_sequences})
    out.put(value);
  out.put(x.last_step_seconds);
}

void read(byte_reader& in, engine::generation_stats& x) {
  for (auto* value : {&x.running, &x.queued, &x.kv_blocks_total, &x.kv_blocks_used})
    *value = in.get<std::uint64_t>();
  for (auto* value : {&x.prompt_tokens, &x.cached_tokens, &x.preemptions, &x.generated_tokens, &x.steps,
                      &x.failed_sequences})
    *value = in.get<std::uint64_t>();
  x.last_step_seconds = in.get<double>();
}

void write(byte_writer& out, const event_batch& x) {
  out.put(x.submissions_seen);
  out.put(x.idle);
  write(out, x.stats);
  out.put(static_cast<std::uint32_t>(x.events.size()));
  for (const auto& event : x.events) write(out, event);
}

void read(byte_reader& in, event_batch& x) {
  x.submissions_seen = in.get<std::uint64_t>();
  x.idle = in.get_bool();
  read(in, x.stats);
  x.events.resize(in.get_count(least_event_bytes));
  for (auto& event : x.events) read(in, event);
}

void write(byte_writer& out, const fault_request& x) {
  out.put(x.fault);
  out.put(static_cast<std::uint32_t>(x.parameters.size()));
  for (const auto& [name, value] : x.parameters) {
    out.put(name);
    out.put(value);
  }
}

void read(byte_reader& in, fault_request& x) {
  x.fault = in.get_string();
  const auto count = in.get_count(2 * sizeof(std::uint32_t));
  for (std::size_t i = 0; i < count; ++i) {
    auto name = in.get_string();
    x.parameters[std::move(name)] = in.get_string();
  }
}

}  // namespace bitnet::actors
