import Bandwidth
import Testing

@Suite struct TokenBucketTests {
  private let second: UInt64 = 1_000_000_000

  private func bucket(_ megabits: Double?) -> TokenBucket { TokenBucket(rate: UploadRate(megabits: megabits), now: 0) }

  @Test func megabitsAreMillions() {
    #expect(UploadRate(megabits: 50) == .limited(bitsPerSecond: 50_000_000))
    #expect(UploadRate(megabits: 0.001) == .limited(bitsPerSecond: 1000))
    #expect(UploadRate(megabits: nil) == .unlimited)
    #expect(UploadRate(megabits: 0) == .paused)
    #expect(UploadRate(megabits: -1) == .paused)
    #expect(UploadRate(megabits: .nan) == .paused)
    #expect(UploadRate(megabits: .infinity) == .limited(bitsPerSecond: 1_000_000_000_000))
  }

  @Test func piecesAreAQuarterOfTheBucket() {
    #expect(UploadRate(megabits: 1).preferredPiece == 3125)
    #expect(UploadRate(megabits: 0.01).preferredPiece == 1024)
    #expect(UploadRate(megabits: 400).preferredPiece == 262_144)
    #expect(UploadRate.unlimited.preferredPiece == 262_144)
    for rate in [0.2, 1, 7, 50, 80] {
      #expect(TokenBucket.capacity(UploadRate(megabits: rate)) >= Int64(UploadRate(megabits: rate).preferredPiece) * 2)
    }
  }

  @Test func theSlowerOfTwo() {
    let slow = UploadRate(megabits: 1)
    let fast = UploadRate(megabits: 2)
    #expect(UploadRate.slower(slow, fast) == slow)
    #expect(UploadRate.slower(.unlimited, fast) == fast)
    #expect(UploadRate.slower(fast, .paused) == .paused)
    #expect(UploadRate.slower(.unlimited, .paused) == .paused)
    #expect(UploadRate.slower(.unlimited, .unlimited) == .unlimited)
  }

  @Test func itEarnsToTheNanosecond() {
    var bucket = bucket(8)  // a byte each microsecond
    #expect(bucket.delay(for: 1000) == 1_000_000)
    bucket.earn(until: 999_999)
    #expect(!bucket.allows(1000))
    #expect(bucket.delay(for: 1000) == 1)
    bucket.earn(until: 1_000_000)
    #expect(bucket.allows(1000))
    #expect(bucket.delay(for: 1000) == 0)
    #expect(!bucket.allows(1001))
  }

  @Test func lookingOftenLosesNothing() {
    // 7 bit/s earns 7 nanobits a nanosecond: whole bits would never come together in steps of 1 ns.
    var often = TokenBucket(rate: .limited(bitsPerSecond: 7), now: 0)
    var seldom = often
    for now in 1...UInt64(10_000) { often.earn(until: now) }
    seldom.earn(until: 10_000)
    #expect(often == seldom)
  }

  @Test func itHoldsATenthOfASecond() {
    var bucket = bucket(8)
    bucket.earn(until: 1000 * second)
    #expect(bucket.allows(100_000))
    bucket.take(100_000)
    #expect(!bucket.allows(1))
    #expect(bucket.delay(for: 50_000) == 50_000_000)
  }

  @Test func aRequestLargerThanTheBucketPassesAndIsEarnedBack() {
    var bucket = bucket(8)  // holds 100,000 bytes
    #expect(bucket.delay(for: 1_000_000) == 100_000_000)
    bucket.earn(until: 100_000_000)
    #expect(bucket.allows(1_000_000))
    bucket.take(1_000_000)
    #expect(bucket.delay(for: 1) == 900_001_000)
    bucket.earn(until: second)
    #expect(!bucket.allows(1))
    bucket.earn(until: second + 1000)
    #expect(bucket.allows(1))
  }

  @Test func aNewRateKeepsWhatWasEarned() {
    var bucket = bucket(8)
    bucket.change(to: UploadRate(megabits: 16), at: 10_000_000)  // 10,000 bytes earned
    #expect(bucket.delay(for: 30_000) == 10_000_000)
    bucket.change(to: UploadRate(megabits: 4), at: 15_000_000)  // and 10,000 more
    #expect(bucket.delay(for: 30_000) == 20_000_000)
  }

  @Test func aNewRateKeepsWhatIsOwed() {
    var bucket = bucket(8)
    bucket.earn(until: second)
    bucket.take(1_100_000)  // owes 1,000,000
    bucket.change(to: UploadRate(megabits: 80), at: second)
    #expect(bucket.delay(for: 1) == 100_000_100)
  }

  @Test func aSlowerRateHoldsLess() {
    var bucket = bucket(800)
    bucket.earn(until: second)
    bucket.change(to: UploadRate(megabits: 8), at: second)
    #expect(bucket.allows(100_000))
    bucket.take(100_000)
    #expect(!bucket.allows(1))
  }

  @Test func aPauseLetsNothingPassAndForgetsNothing() {
    var bucket = bucket(8)
    bucket.change(to: .paused, at: 10_000_000)
    #expect(!bucket.allows(1))
    #expect(bucket.delay(for: 1) == nil)
    bucket.earn(until: 100 * second)
    bucket.change(to: UploadRate(megabits: 8), at: 200 * second)
    #expect(bucket.delay(for: 30_000) == 20_000_000)
  }

  @Test func withoutALimitAllPassesAndNothingIsCounted() {
    var bucket = bucket(nil)
    #expect(bucket.allows(.max))
    #expect(bucket.delay(for: .max) == 0)
    bucket.take(.max)
    bucket.change(to: UploadRate(megabits: 8), at: second)
    #expect(bucket.delay(for: 1000) == 1_000_000)
  }

  @Test func aClockThatStandsOrGoesBackEarnsNothing() {
    var bucket = TokenBucket(rate: UploadRate(megabits: 8), now: second)
    bucket.earn(until: 0)
    bucket.earn(until: second)
    #expect(bucket.delay(for: 1000) == 1_000_000)
  }

  @Test func extremesDoNotOverflow() {
    var bucket = TokenBucket(rate: UploadRate(megabits: 1e6), now: 0)
    bucket.earn(until: .max)
    #expect(bucket.allows(.max))
    bucket.take(.max)
    bucket.take(.max)
    #expect((bucket.delay(for: .max) ?? 0) > second)
    var slow = TokenBucket(rate: .limited(bitsPerSecond: 1), now: 0)
    for _ in 0..<100 { slow.take(.max) }
    #expect(slow.delay(for: 1) == .max)
  }
}
