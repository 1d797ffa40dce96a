import Synchronization
import Transport
import Verification

/// A counter that many tasks take numbers from.
final class Turn: Sendable {
  private let count = Atomic<Int>(0)
  /// The number before the increment.
  func advance() -> Int { count.wrappingAdd(1, ordering: .relaxed).oldValue & Int.max }

  /// How many numbers were taken.
  var value: Int { count.load(ordering: .relaxed) & Int.max }

  /// Does the same with all of them, so many at a time that one round trip does for them. Ends with the first failure.
  /// - Throws: What a body throws; `interrupted` where the task was cancelled before all of them were begun.
  static func each<Element: Sendable>(
    of elements: [Element], atOnce: Int, _ body: @Sendable @escaping (Element) async throws(TransportError) -> Void
  ) async throws(TransportError) {
    let turn = Turn()
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<min(elements.count, atOnce) {
          group.addTask {
            while case let index = turn.advance(), index < elements.count {
              // What was left out must not pass for done.
              if Task.isCancelled { throw TransportError.failure(ComponentSender.stopped, sessionLost: false) }
              try await body(elements[index])
            }
          }
        }
        try await group.waitForAll()
      }
    } catch { throw TransportError.wrapping(error) }
  }
}

/// A flag that is set once and asked often.
final class StopFlag: Sendable {
  private let flag = Atomic<Bool>(false)
  func set() { flag.store(true, ordering: .releasing) }
  var isSet: Bool { flag.load(ordering: .acquiring) }
}
