#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/hash.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() : folder_(fs::path(testing::TempDir()) / fmt::format("celslm-core-{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~FileTest() override { fs::remove_all(folder_); }
  std::size_t files() const { return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), {})); }
  fs::path folder_;
};

TEST(HashTest, MatchesThePublishedVectorOfTheEmptyInput) {
  EXPECT_EQ(hash_of("").hex(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
}

TEST(HashTest, FieldsDoNotRunIntoEachOther) {
  EXPECT_NE(Hasher().update_field("ab").update_field("c").finish(), Hasher().update_field("a").update_field("bc").finish());
}

TEST(HashTest, HexRoundTripsAndRefusesOtherText) {
  const Hash256 h = hash_of("x");
  EXPECT_EQ(Hash256::from_hex(h.hex()), h);
  EXPECT_FALSE(Hash256::from_hex("12"));
  EXPECT_FALSE(Hash256::from_hex(std::string(64, 'g')));
}

TEST(ByteReaderTest, ReadsBackWhatWasWritten) {
  ByteWriter w;
  w.u8(1);
  w.u16(0x0203);
  w.u64(~0ULL);
  w.f32(1.5F);
  w.text("abc");
  ByteReader r(w.data());
  EXPECT_EQ(r.u8(), 1);
  EXPECT_EQ(r.u16(), 0x0203);
  EXPECT_EQ(r.u64(), ~0ULL);
  EXPECT_EQ(r.f32(), 1.5F);
  EXPECT_EQ(r.text(10), "abc");
  EXPECT_TRUE(r.ok());
  EXPECT_EQ(r.remaining(), 0U);
}

TEST(ByteReaderTest, StaysFailedAfterTheFirstShortRead) {
  ByteWriter w;
  w.u16(7);
  ByteReader r(w.data());
  EXPECT_EQ(r.u32(), 0U);
  EXPECT_EQ(r.u8(), 0U);
  EXPECT_FALSE(r.ok());
}

TEST(ByteReaderTest, RefusesATextLongerThanItsLimit) {
  ByteWriter w;
  w.text("abcdef");
  ByteReader r(w.data());
  r.text(5);
  EXPECT_FALSE(r.ok());
}

TEST_F(FileTest, AtomicWriteShowsTheWholeFileOrNothing) {
  const fs::path path = folder_ / "a";
  auto file = AtomicFile::create(path, 6);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE((*file)->write_at(3, as_bytes("def")));
  EXPECT_FALSE(fs::exists(path));
  ASSERT_TRUE((*file)->write_at(0, as_bytes("abc")));
  ASSERT_TRUE((*file)->commit());
  EXPECT_EQ(as_text(*read_file(path, 100)), "abcdef");
}

TEST_F(FileTest, ADeviceIsNotReplaced) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink(pipe, folder_ / "link");
  for (const char* name : {"pipe", "link", "."}) {
    const Status written = write_file_atomically(folder_ / name, as_bytes("x"));
    ASSERT_FALSE(written) << name;
    EXPECT_THAT(written.error().message, testing::HasSubstr("not a regular file"));
  }
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
}

TEST_F(FileTest, AnAbandonedWriteLeavesNothingBehind) {
  {
    ASSERT_TRUE(AtomicFile::create(folder_ / "a", 6));
  }
  EXPECT_EQ(files(), 0U);
}

TEST_F(FileTest, ErrorsNameTheFile) {
  const auto missing = read_file(folder_ / "nope", 10);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(missing.error().message, testing::HasSubstr("nope"));
  ASSERT_TRUE(write_file_atomically(folder_ / "big", as_bytes("0123456789")));
  EXPECT_FALSE(read_file(folder_ / "big", 9));
  EXPECT_FALSE(write_file_atomically(folder_ / "no" / "folder", as_bytes("x")));
}

TEST_F(FileTest, APrivateFileIsItsOwnersAloneAndNeverReplaced) {
  const fs::path path = folder_ / "secret";
  EXPECT_TRUE(write_new_private_file(path, as_bytes("first")).value());
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_FALSE(write_new_private_file(path, as_bytes("second")).value());
  EXPECT_EQ(as_text(*read_file(path, 100)), "first");
  EXPECT_EQ(files(), 1U);
}

TEST_F(FileTest, RemovesTheTemporaryFilesOfAKilledProcessOnly) {
  const auto living = AtomicFile::create(folder_ / "living", 3);
  ASSERT_TRUE(living);
  const pid_t killed = ::fork();
  if (killed == 0) {
    if (auto file = AtomicFile::create(folder_ / "killed", 3)) file->release();  // as a kill does: no destructor
    ::_exit(0);
  }
  ::waitpid(killed, nullptr, 0);
  EXPECT_EQ(files(), 2U);
  EXPECT_EQ(remove_abandoned_files(folder_).value(), 1);
  ASSERT_TRUE((*living)->write_at(0, as_bytes("abc")));
  ASSERT_TRUE((*living)->commit());
  EXPECT_EQ(as_text(*read_file(folder_ / "living", 100)), "abc");
}

TEST_F(FileTest, RemovesNothingButTemporaryFiles) {
  ASSERT_TRUE(write_file_atomically(folder_ / "data", as_bytes("x")));
  fs::create_directory(folder_ / "folder.tmp");
  fs::create_symlink(folder_ / "data", folder_ / "link.tmp");
  EXPECT_EQ(remove_abandoned_files(folder_).value(), 0);
  EXPECT_EQ(files(), 3U);
  EXPECT_FALSE(remove_abandoned_files(folder_ / "missing"));
}

TEST_F(FileTest, ReadsPiecesOfAFileAndReportsThoseThatAreGone) {
  ASSERT_TRUE(write_file_atomically(folder_ / "f", as_bytes("0123456789")));
  const auto file = InputFile::open(folder_ / "f").value();
  EXPECT_EQ(file->size(), 10U);
  EXPECT_EQ(as_text(file->read(3, 4).value()), "3456");
  EXPECT_EQ(file->read(10, 0).value().size(), 0U);
  EXPECT_EQ(file->read(7, 4).error().kind, ErrorKind::kIo);
  EXPECT_EQ(file->read(11, 0).error().kind, ErrorKind::kIo);
  EXPECT_EQ(file->read(1, SIZE_MAX).error().kind, ErrorKind::kIo);
  fs::resize_file(folder_ / "f", 5);
  EXPECT_EQ(as_text(file->read(1, 4).value()), "1234");
  EXPECT_EQ(file->read(3, 4).error().kind, ErrorKind::kIo);
  fs::remove(folder_ / "f");
  EXPECT_EQ(as_text(file->read(0, 2).value()), "01");
  EXPECT_EQ(InputFile::open(folder_ / "f").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(InputFile::open(folder_).error().kind, ErrorKind::kInvalid);
}

TEST_F(FileTest, MapsAFile) {
  ASSERT_TRUE(write_file_atomically(folder_ / "m", as_bytes("mapped")));
  const auto map = MappedFile::open(folder_ / "m");
  ASSERT_TRUE(map);
  EXPECT_EQ(as_text((*map)->bytes()), "mapped");
}

}  // namespace
}  // namespace celslm
