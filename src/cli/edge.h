// What programs other than celslm need of its edge.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <memory>

#include "cli/terminal/environment.h"
#include "model/engine/engine.h"

namespace celslm {

// Makes another engine of the one that the edge's options ask for.
using ChangeEngine = std::function<std::unique_ptr<Engine>(std::unique_ptr<Engine>)>;

// As add_edge() (cli/commands.h); the edge computes with what `change` makes.
void add_edge_with(CLI::App& app, Environment& env, const ChangeEngine& change);

}  // namespace celslm
