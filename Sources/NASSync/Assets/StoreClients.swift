import Synchronization
import SyncModel
import Transport
import TransportHTTP

/// One HTTP client for each store that URLs lead to, kept while it is used and bounded in number.
final class StoreClients: Sendable {
  private struct Entry {
    let client: HTTPClient
    let opening: Task<TransportError?, Never>
    var users = 0
    var turn: UInt64 = 0
  }

  private struct State {
    var entries: [HTTPOrigin: Entry] = [:]
    var turn: UInt64 = 0
    var isInterrupted = false
  }

  private let state = Mutex(State())
  private let settings: @Sendable (HTTPOrigin) -> HTTPSettings
  private let limit: Int

  /// - Parameter limit: Clients at once; at least as many as are used at once.
  init(limit: Int, settings: @escaping @Sendable (HTTPOrigin) -> HTTPSettings) {
    self.limit = limit
    self.settings = settings
  }

  /// Runs a body with the client of an origin. One that is lost is not used again.
  func with<Result: Sendable>(
    _ origin: HTTPOrigin, _ body: (HTTPClient) async throws(TransportError) -> Result
  ) async throws(TransportError) -> Result {
    let (client, opening) = take(origin)
    do throws(TransportError) {
      if let failure = await opening.value { throw failure }
      let result = try await body(client)
      giveBack(origin, client, lost: false)
      return result
    } catch {
      giveBack(origin, client, lost: error.sessionLost)
      throw error
    }
  }

  private func take(_ origin: HTTPOrigin) -> (HTTPClient, Task<TransportError?, Never>) {
    let (client, opening, retired) = state.withLock { state in
      state.turn += 1
      if var entry = state.entries[origin] {
        entry.users += 1
        entry.turn = state.turn
        state.entries[origin] = entry
        return (entry.client, entry.opening, [HTTPClient]())
      }
      var retired: [HTTPClient] = []
      while state.entries.count >= limit,
        let oldest = state.entries.filter({ $0.value.users == 0 }).min(by: { $0.value.turn < $1.value.turn })
      {
        retired.append(oldest.value.client)
        state.entries[oldest.key] = nil
      }
      let client = HTTPClient(settings: settings(origin))
      if state.isInterrupted { client.interrupt() }
      let opening = Task { () -> TransportError? in
        do throws(TransportError) { try await client.open() } catch { return error }
        return nil
      }
      state.entries[origin] = Entry(client: client, opening: opening, users: 1, turn: state.turn)
      return (client, opening, retired)
    }
    for client in retired { Task { await client.close() } }
    return (client, opening)
  }

  private func giveBack(_ origin: HTTPOrigin, _ client: HTTPClient, lost: Bool) {
    state.withLock { state in
      guard let entry = state.entries[origin], entry.client === client else { return }
      if lost { state.entries[origin] = nil } else { state.entries[origin]?.users -= 1 }
    }
  }

  /// Makes every call in flight and to come throw at once. From any thread.
  func interrupt() {
    let clients = state.withLock { state in
      state.isInterrupted = true
      return state.entries.values.map(\.client)
    }
    for client in clients { client.interrupt() }
  }

  /// How many clients there are.
  var count: Int { state.withLock { $0.entries.count } }

  /// Ends all connections.
  func close() async {
    let clients = state.withLock { state in
      defer { state.entries = [:] }
      return state.entries.values.map(\.client)
    }
    for client in clients { await client.close() }
  }
}
