#pragma once

#include "apps/bitnet_console/client.hpp"

#include <string>
#include <vector>

namespace bitnet::console {

/// What may stand behind `before`, the line up to the word that is being written: commands, their options,
/// and where they take them the actors, requests and nodes that there are now.
std::vector<std::string> completions(client& server, const std::string& before);

}  // namespace bitnet::console
