#include "kv/pack/pack_file.h"

#include <algorithm>

#include "kv/pack/pack.h"

namespace celslm {

Result<Bytes> read_pack_header(const InputFile& file) {
  CELSLM_TRY(const Bytes prefix, file.read(0, std::min<std::uint64_t>(file.size(), kHeaderPrefixBytes)));
  const auto length = peek_header_bytes(prefix);
  if (!length) return wrap(length.error(), file.path().string());
  if (*length > file.size()) {
    return fail(ErrorKind::kInvalid, "{}: truncated: the file has {} bytes, but the header alone has {}",
                file.path().string(), file.size(), *length);
  }
  return file.read(0, *length);
}

}  // namespace celslm
