#pragma once

#include "apps/bitnet_console/client.hpp"
#include "apps/bitnet_console/session.hpp"

namespace bitnet::console {

/// The interactive console: reads lines until quit or the end of input. With a terminal: line editing, a
/// history that lasts, completion over commands, options and what lives on the server. Returns the last
/// command's code.
exit_code run_repl(client& server, session& commands, bool editing);

}  // namespace bitnet::console
