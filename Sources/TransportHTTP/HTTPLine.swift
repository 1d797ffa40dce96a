/// Exchanges that wait for a connection, first in, first out.
struct HTTPLine {
  private var waiting: [HTTPExchange?] = []
  private var head = 0

  mutating func append(_ exchange: HTTPExchange) { waiting.append(exchange) }

  mutating func next() -> HTTPExchange? {
    while head < waiting.count {
      let exchange = waiting[head]
      waiting[head] = nil
      head += 1
      if head == waiting.count {
        waiting.removeAll(keepingCapacity: true)
        head = 0
      }
      if let exchange { return exchange }
    }
    return nil
  }

  mutating func remove(_ exchange: HTTPExchange) {
    guard let index = waiting.firstIndex(where: { $0 === exchange }) else { return }
    waiting[index] = nil
  }

  mutating func removeAll() -> [HTTPExchange] {
    defer { waiting = [] }
    head = 0
    return waiting.compactMap { $0 }
  }
}
