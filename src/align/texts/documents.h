// Texts that models are run over to fit or to judge a layer map.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// Something asked about a document, with an answer that can be checked.
struct Question {
  std::string text;
  std::string answer;  // a right reply contains it
  std::string reply;   // the whole right reply; empty: any that contains the answer
  int steps = 0;       // facts that the answer needs; 0: not said
};

// The unit that is held out, drawn again by the bootstrap, and compared when two sets of texts must not overlap.
struct Document {
  std::string text;
  bool is_context = false;  // the system message of a chat, rather than plain text
  std::vector<Question> questions;
  Hash256 hash;  // of the text without the white space around it
};

// A file that ends in .json holds {"worlds": [{"context", "questions": [{"question", "answer", "reply", "steps"}]}]} as in
// models/worlds: each context is a document. Any other is plain text: stretches between empty lines are documents.
// kNotFound, kIo; kInvalid, with the file's name, for one that holds no document.
Result<std::vector<Document>> read_documents(const std::filesystem::path& path);
// Of several files, one after the other, without repetitions.
Result<std::vector<Document>> read_documents(const std::vector<std::string>& paths);

// As a model reads it: a context through the chat template, plain text as it is. Cut after `limit` tokens. Errors of
// Text::context.
Result<std::vector<Token>> tokens_of(const Text& text, const Document& document, int limit);
// What follows the context's tokens where the question is asked. kInvalid for a document that is no context.
Result<std::vector<Token>> tokens_of(const Text& text, const Document& document, const Question& question);

}  // namespace celslm
