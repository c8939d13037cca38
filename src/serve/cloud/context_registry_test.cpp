#include "serve/cloud/context_registry.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <thread>

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class ContextRegistryTest : public testing::Test {
 protected:
  ContextRegistryTest() : folder_(fs::path(testing::TempDir()) / fmt::format("celslm-registry-{}", ::getpid())) {
    fs::remove_all(folder_);
  }
  ~ContextRegistryTest() override { fs::remove_all(folder_); }

  std::unique_ptr<ContextRegistry> open() {
    auto out = ContextRegistry::open(folder_, null_log());
    EXPECT_TRUE(out) << out.error().message;
    return out ? *std::move(out) : nullptr;
  }
  fs::path file_of(const ContextHandle& handle) const { return folder_ / (handle.hex() + ".json"); }
  static void overwrite(const fs::path& path, std::string_view content) { std::ofstream(path, std::ios::trunc) << content; }

  fs::path folder_;
};

TEST_F(ContextRegistryTest, FindsWhatWasRegisteredUnderTheHashOfItsText) {
  const auto registry = open();
  const auto info = registry->put("a manual\n\"quoted\"", "manual");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->handle, hash_of("a manual\n\"quoted\""));
  const auto found = registry->find(info->handle);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->text, "a manual\n\"quoted\"");
  EXPECT_EQ(found->info.name, "manual");
  EXPECT_EQ(found->info.bytes, 17U);
}

TEST_F(ContextRegistryTest, RegisteringAgainChangesNothing) {
  const auto registry = open();
  const auto first = registry->put("text", "first");
  const auto second = registry->put("text", "second");
  ASSERT_TRUE(second);
  EXPECT_EQ(second->handle, first->handle);
  EXPECT_EQ(second->name, "first");
  EXPECT_EQ(registry->size(), 1U);
}

TEST_F(ContextRegistryTest, KeepsContextsOverARestart) {
  const ContextHandle handle = open()->put("kept ä", "n")->handle;
  const auto again = open();
  EXPECT_THAT(again->list(), SizeIs(1));
  EXPECT_EQ(again->find(handle)->text, "kept ä");
}

TEST_F(ContextRegistryTest, ForgetsWhatIsRemovedAlsoOnDisk) {
  const auto registry = open();
  const ContextHandle handle = registry->put("text", "")->handle;
  ASSERT_TRUE(registry->remove(handle));
  EXPECT_EQ(registry->find(handle).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(registry->remove(handle).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(open()->size(), 0U);
}

TEST_F(ContextRegistryTest, RefusesTextsThatAreEmptyTooLongOrNotUtf8) {
  const auto registry = open();
  EXPECT_EQ(registry->put("", "").error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(registry->put("\xff", "").error().message, HasSubstr("UTF-8"));
  EXPECT_TRUE(registry->put(std::string(kMaxContextBytes, 'a'), ""));
  EXPECT_EQ(registry->put(std::string(kMaxContextBytes + 1, 'a'), "").error().kind, ErrorKind::kInvalid);
}

TEST_F(ContextRegistryTest, RefusesNamesThatWouldHarmATerminalOrAList) {
  const auto registry = open();
  EXPECT_EQ(registry->put("t", "\x1b[2J").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(registry->put("t", "line\nbreak").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(registry->put("t", std::string(kMaxContextNameBytes + 1, 'n')).error().kind, ErrorKind::kInvalid);
  EXPECT_TRUE(registry->put("t", std::string(kMaxContextNameBytes, 'n')));
}

TEST_F(ContextRegistryTest, WhatAKilledCloudWasWritingGoes) {
  const auto info = open()->put("a text", "");
  const fs::path left = folder_ / (info->handle.hex() + ".json.4711.1.tmp");
  overwrite(left, "half a te");
  EXPECT_THAT(open()->list(), SizeIs(1));
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(ContextRegistryTest, SetsDamagedFilesAsideAndKeepsTheOthers) {
  ContextHandle good;
  ContextHandle changed;
  ContextHandle cut;
  {
    const auto registry = open();
    good = registry->put("good", "")->handle;
    changed = registry->put("changed", "")->handle;
    cut = registry->put("cut", "")->handle;
  }
  overwrite(file_of(changed), R"({"name":"","text":"something else"})");
  overwrite(file_of(cut), R"({"name":"","te)");
  overwrite(folder_ / "stranger.json", "{}");
  const auto registry = open();
  EXPECT_EQ(registry->size(), 1U);
  EXPECT_TRUE(registry->find(good));
  EXPECT_TRUE(fs::exists(file_of(changed).string() + ".bad"));
  EXPECT_TRUE(fs::exists(file_of(cut).string() + ".bad"));
  EXPECT_TRUE(fs::exists(folder_ / "stranger.json.bad"));
  EXPECT_EQ(registry->find(changed).error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(registry->put("changed", "")) << "a damaged text can be registered anew";
}

TEST_F(ContextRegistryTest, NeverHandsOutATextThatWasChangedBehindItsBack) {
  const auto registry = open();
  const ContextHandle handle = registry->put("honest", "")->handle;
  overwrite(file_of(handle), R"({"name":"","text":"forged"})");
  EXPECT_EQ(registry->find(handle).error().kind, ErrorKind::kInvalid);
}

TEST_F(ContextRegistryTest, NamesTheFolderThatCannotBeMade) {
  overwrite(folder_, "a file where the folder should be");
  const auto registry = ContextRegistry::open(folder_ / "contexts", null_log());
  ASSERT_FALSE(registry);
  EXPECT_EQ(registry.error().kind, ErrorKind::kIo);
  EXPECT_THAT(registry.error().message, HasSubstr(folder_.string()));
}

TEST_F(ContextRegistryTest, ManyThreadsMayRegisterListAndRemoveAtOnce) {
  const auto registry = open();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&registry, t] {
        for (int i = 0; i < 8; ++i) {
          EXPECT_TRUE(registry->put(fmt::format("shared {}", i), ""));
          const auto own = registry->put(fmt::format("own {} {}", t, i), "");
          ASSERT_TRUE(own);
          EXPECT_TRUE(registry->find(own->handle));
          registry->list();
          EXPECT_TRUE(registry->remove(own->handle));
        }
      });
    }
  }
  EXPECT_EQ(registry->size(), 8U);
  EXPECT_EQ(open()->size(), 8U);
}

TEST_F(ContextRegistryTest, TellsWhatChangedSinceARevision) {
  const auto registry = open();
  const auto one = registry->put("one", "")->handle;
  const std::string before = registry->revision();
  const auto two = registry->put("two", "")->handle;
  const auto three = registry->put("three", "")->handle;
  ASSERT_TRUE(registry->remove(one));
  ASSERT_TRUE(registry->remove(three));
  const ContextList changes = registry->changes_since(before);
  EXPECT_EQ(changes.since, before);
  EXPECT_EQ(changes.revision, registry->revision());
  EXPECT_EQ(changes.n_contexts, 1U);
  ASSERT_THAT(changes.added, SizeIs(1));
  EXPECT_EQ(changes.added[0].handle, two);
  EXPECT_THAT(changes.removed, testing::UnorderedElementsAre(one, three));
  const ContextList none = registry->changes_since(registry->revision());
  EXPECT_FALSE(none.complete());
  EXPECT_THAT(none.added, SizeIs(0));
}

TEST_F(ContextRegistryTest, OnlyChangesMakeANewRevision) {
  const auto registry = open();
  int changes = 0;
  registry->on_change([&] { ++changes; });
  const std::string first = registry->revision();
  ASSERT_TRUE(registry->put("one", ""));
  const std::string second = registry->revision();
  EXPECT_NE(first, second);
  ASSERT_TRUE(registry->put("one", "again"));
  EXPECT_FALSE(registry->remove(context_handle("two")));
  EXPECT_EQ(registry->revision(), second);
  EXPECT_EQ(changes, 1);
}

TEST_F(ContextRegistryTest, AnUnknownRevisionGetsTheCompleteList) {
  std::string earlier;
  {
    const auto registry = open();
    ASSERT_TRUE(registry->put("one", ""));
    earlier = registry->revision();
  }
  const auto registry = open();
  EXPECT_NE(registry->revision(), earlier);
  const std::string now = registry->revision();
  const std::string run = now.substr(0, now.find('-'));
  for (const std::string& unknown :
       {earlier, std::string(), run, run + "-", run + "-1", run + "--1", run + "-0x", now + " "}) {
    const ContextList list = registry->changes_since(unknown);
    EXPECT_TRUE(list.complete()) << unknown;
    EXPECT_THAT(list.added, SizeIs(1)) << unknown;
  }
}

TEST_F(ContextRegistryTest, ForgetsOldChanges) {
  const auto registry = *ContextRegistry::open(folder_, null_log(), 4);
  const std::string first = registry->revision();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(registry->put("one", ""));
    ASSERT_TRUE(registry->remove(context_handle("one")));
  }
  EXPECT_FALSE(registry->changes_since(first).complete());
  ASSERT_TRUE(registry->put("one", ""));
  EXPECT_TRUE(registry->changes_since(first).complete());
}

}  // namespace
}  // namespace celslm
