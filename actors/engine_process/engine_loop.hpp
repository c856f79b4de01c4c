#pragma once

#include "actors/engine_process/frame_channel.hpp"
#include "actors/engine_process/shared_memory.hpp"
#include "actors/inference_engine.hpp"

namespace bitnet::actors {

/// The main thread of an engine process: steps as long as there is something to do, without waiting for the
/// server, and obeys what the server sends between two steps. Says `hello` first. Returns when the server
/// closes its end, or sends what no frame is.
void serve_engine(frame_channel& channel, engine_signs& signs, inference_engine& engine);

}  // namespace bitnet::actors
