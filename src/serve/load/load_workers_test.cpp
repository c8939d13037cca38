#include "serve/load/load_workers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <semaphore>

namespace celslm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Makes so many threads and no more.
Spawn at_most(int n) {
  return [left = std::make_shared<std::atomic<int>>(n)](std::function<void(std::stop_token)> work) -> Result<std::jthread> {
    if (left->fetch_sub(1) <= 0) return fail(ErrorKind::kOverloaded, "no thread is left");
    return spawn_thread(std::move(work));
  };
}

TEST(LoadWorkersTest, MakesThreadsAsPlacesAreTakenAndNoMoreThanThereArePlaces) {
  LoadWorkers workers({2, 3, 1}, spawn_thread, null_log());
  EXPECT_EQ(workers.threads(), 0U);
  int taken = 0;
  for (int i = 0; i < 100; ++i) {
    for (const LoadWork work : {LoadWork::kOpen, LoadWork::kRead, LoadWork::kKeep}) taken += *workers.take(work, 1, [] {});
  }
  EXPECT_EQ(taken, 6);
  EXPECT_EQ(workers.threads(), 6U);
}

TEST(LoadWorkersTest, GivesAFreePlaceToTheOldestLoadThatWaits) {
  std::vector<int> order;  // written by the one worker, and read when it has ended
  {
    LoadWorkers workers({1, 1, 1}, spawn_thread, null_log());
    std::latch told(3);
    ASSERT_TRUE(*workers.take(LoadWork::kRead, 1, [] {}));
    for (const int number : {7, 3, 5}) {
      const auto freed = [&workers, &told, &order, number] {
        ASSERT_TRUE(*workers.take(LoadWork::kRead, 1, [] {}));
        order.push_back(number);
        workers.run(LoadWork::kRead, [&told] { told.count_down(); });
      };
      EXPECT_FALSE(*workers.take(LoadWork::kRead, static_cast<std::uint64_t>(number), freed));
    }
    workers.run(LoadWork::kRead, [] {});
    told.wait();
  }
  EXPECT_THAT(order, ElementsAre(3, 5, 7));
}

TEST(LoadWorkersTest, TellsWhoWaitsForAPlaceThatWasTakenInVain) {
  LoadWorkers workers({1, 1, 1}, spawn_thread, null_log());
  std::binary_semaphore told(0);
  ASSERT_TRUE(*workers.take(LoadWork::kRead, 1, [] {}));
  EXPECT_FALSE(*workers.take(LoadWork::kRead, 2, [&] { told.release(); }));
  workers.put_back(LoadWork::kRead);
  told.acquire();
}

TEST(LoadWorkersTest, MakesDoWithTheThreadsThereAre) {
  LoadWorkers workers({4, 4, 4}, at_most(1), null_log());
  std::binary_semaphore told(0);
  ASSERT_TRUE(*workers.take(LoadWork::kRead, 1, [] {}));
  EXPECT_FALSE(*workers.take(LoadWork::kRead, 2, [&] { told.release(); })) << "there is a place, but no thread";
  workers.run(LoadWork::kRead, [] {});
  told.acquire();
  EXPECT_TRUE(*workers.take(LoadWork::kRead, 2, [] {}));
}

TEST(LoadWorkersTest, ReportsThatThereIsNoThreadAtAll) {
  LoadWorkers workers({4, 4, 4}, at_most(0), null_log());
  const auto taken = workers.take(LoadWork::kRead, 1, [] {});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().kind, ErrorKind::kOverloaded);
  EXPECT_THAT(taken.error().message, HasSubstr("no thread is left"));
}

TEST(LoadWorkersTest, GoesOnAfterWorkThatThrows) {
  LoadWorkers workers({1, 1, 1}, spawn_thread, null_log());
  std::binary_semaphore told(0);
  ASSERT_TRUE(*workers.take(LoadWork::kRead, 1, [] {}));
  EXPECT_FALSE(*workers.take(LoadWork::kRead, 2, [&] { told.release(); }));
  workers.run(LoadWork::kRead, [] { throw std::bad_alloc(); });
  told.acquire();
  EXPECT_TRUE(*workers.take(LoadWork::kRead, 2, [] {}));
}

}  // namespace
}  // namespace celslm
