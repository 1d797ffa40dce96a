import Synchronization

/// A counter that many tasks take numbers from.
final class Turn: Sendable {
  private let count = Atomic<Int>(0)
  /// The number before the increment.
  func advance() -> Int { count.wrappingAdd(1, ordering: .relaxed).oldValue & Int.max }
}

/// A flag that is set once and asked often.
final class StopFlag: Sendable {
  private let flag = Atomic<Bool>(false)
  func set() { flag.store(true, ordering: .releasing) }
  var isSet: Bool { flag.load(ordering: .acquiring) }
}
