// The texts that a layer map is fitted on or judged on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// A question about a document, with an answer that can be checked by machine.
struct Question {
  std::string text;
  std::string answer;  // every correct reply contains it
  std::string reply;   // the complete correct reply; empty: any reply that contains the answer is correct
  int steps = 0;       // number of facts needed to answer; 0: unknown
};

// The unit of sampling: documents are held out, resampled by the bootstrap, and compared to detect overlap between two sets
// of texts.
struct Document {
  std::string text;
  bool is_context = false;  // the system message of a chat, rather than plain text
  std::vector<Question> questions;
  Hash256 hash;  // of the text without leading and trailing white space
};

// A file that ends in .json holds {"worlds": [{"context", "questions": [{"question", "answer", "reply", "steps"}]}]} as in
// models/worlds: each context is a document. Any other file is plain text, split into documents at empty lines.
// Errors: kNotFound, kIo; kInvalid, with the file's name, for malformed JSON or a file without a document.
Result<std::vector<Document>> read_documents(const std::filesystem::path& path);
// The documents of several files, in order; of documents with equal hashes only the first.
Result<std::vector<Document>> read_documents(const std::vector<std::string>& paths);

// The document's tokens as the model receives them: a context through the chat template, plain text unchanged. Truncated to
// `limit` tokens. Errors of Text::context.
Result<std::vector<Token>> tokens_of(const Text& text, const Document& document, int limit);
// The tokens that follow the context's when the question is asked. kInvalid if the document is not a context.
Result<std::vector<Token>> tokens_of(const Text& text, const Document& document, const Question& question);

}  // namespace celslm
