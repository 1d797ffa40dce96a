import Executors
import Testing

@Suite struct ThreadExecutorTests {
  @Test func runsBodyOnItsOwnThread() async throws {
    let executor = ThreadExecutor(name: "test")
    defer { executor.shutdown() }
    #expect(await executor.run { executor.isCurrent })
    #expect(!executor.isCurrent)
  }
}
