// Loading a model from any bytes ends with a model or an error: in our header walk, in ggml's parser behind it, in the
// configuration, the tensors and libllama's vocabulary.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "model/engine/model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  const auto path = std::filesystem::temp_directory_path() / fmt::format("celslm-gguf-fuzz-{}", ::getpid());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  if (const auto model = Model::load(path)) {
    const auto tokens = (*model)->text().tokenize("the <|im_end|> \xFF\n\n123", true, true);
    static_cast<void>((*model)->text().detokenize(tokens));
    const ChatMessage message{.role = "user", .content = "the"};
    static_cast<void>((*model)->text().chat({&message, 1}));
  }
  std::filesystem::remove(path);
  return 0;
}
