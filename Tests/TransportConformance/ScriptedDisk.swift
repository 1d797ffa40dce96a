import Synchronization
import TransportSFTP

/// A disk in memory behind a scripted SFTP server, that does with names what a test tells it to: folds them, changes them, refuses them.
final class ScriptedDisk: Sendable {
  struct Rules: Sendable {
    /// Two names of one key are one file.
    var key: @Sendable ([UInt8]) -> [UInt8] = { $0 }
    /// The name that a listing shows; nil refuses the name.
    var stored: @Sendable ([UInt8]) -> [UInt8]? = { $0 }
    /// Bytes of the longest path below the root.
    var maxPath = Int.max
    /// Entries that fit.
    var room = Int.max
    /// Whether a listing shows the entries.
    var listed: @Sendable ([UInt8]) -> Bool = { _ in true }
    /// Whether a made name can be removed.
    var removes = true
    /// What is done to every answer.
    var garble: @Sendable (_ type: UInt8, _ id: UInt32, _ answer: [UInt8]) -> [UInt8] = { $2 }
  }

  private struct Entry {
    let name: [UInt8]
    let parent: [UInt8]
    let isFolder: Bool
    var target: [UInt8]?
  }

  private struct State {
    var entries: [[UInt8]: Entry] = [:]
    /// Folders being listed, by handle.
    var listings: [[UInt8]: [UInt8]] = [:]
    var handles: UInt32 = 0
  }

  private static let root = Array("/root".utf8)
  private let rules: Rules
  private let state = Mutex(State())

  init(_ rules: Rules) { self.rules = rules }

  /// Names that are there, anywhere.
  var names: [[UInt8]] { state.withLock { $0.entries.values.map(\.name) } }

  var server: ScriptedServer {
    ScriptedServer { [self] type, id, body in
      let honest = state.withLock { state in self.answer(type, id, body, &state) }
      return rules.garble(type, id, honest)
    }
  }

  private func answer(_ type: UInt8, _ id: UInt32, _ body: [UInt8], _ state: inout State) -> [UInt8] {
    let path = Self.string(body, at: 0)
    let key = rules.key(path)
    let done = ScriptedServer.status(id, 0)
    switch type {
    case 3:
      if let refusal = make(path, isFolder: false, id, &state) { return refusal }
      state.handles += 1
      return ScriptedServer.packet(102, id, ScriptedServer.string(ScriptedServer.number(state.handles)))
    case 14: return make(path, isFolder: true, id, &state) ?? done
    case 20:
      // OpenSSH's order: the target first.
      let link = Self.string(body, at: 4 + path.count)
      if let refusal = make(link, isFolder: false, id, &state) { return refusal }
      state.entries[rules.key(link)]?.target = path
      return done
    case 19:
      guard let target = state.entries[key]?.target else { return ScriptedServer.status(id, 2) }
      return ScriptedServer.packet(
        104, id, ScriptedServer.number(1) + ScriptedServer.string(target) + ScriptedServer.string("") + [0, 0, 0, 0])
    case 4: return done
    case 7, 17:
      guard path == Self.root || state.entries[key] != nil else { return ScriptedServer.status(id, 2) }
      return ScriptedServer.packet(105, id, Self.attributes(isFolder: path == Self.root || state.entries[key]?.isFolder == true))
    case 11:
      guard path == Self.root || state.entries[key]?.isFolder == true else { return ScriptedServer.status(id, 2) }
      state.handles += 1
      state.listings[ScriptedServer.number(state.handles)] = key
      return ScriptedServer.packet(102, id, ScriptedServer.string(ScriptedServer.number(state.handles)))
    case 12: return list(path, id, &state)
    case 13, 15:
      guard rules.removes else { return ScriptedServer.status(id, 3) }
      guard state.entries[key] != nil else { return ScriptedServer.status(id, 2) }
      if state.entries.values.contains(where: { $0.parent == key }) { return ScriptedServer.status(id, 4, "not empty") }
      state.entries[key] = nil
      return done
    default: return ScriptedServer.status(id, 8)
    }
  }

  private func make(_ path: [UInt8], isFolder: Bool, _ id: UInt32, _ state: inout State) -> [UInt8]? {
    let slash = path.lastIndex(of: UInt8(ascii: "/")) ?? 0
    let parent = rules.key(Array(path[..<slash]))
    guard parent == Self.root || state.entries[parent]?.isFolder == true else { return ScriptedServer.status(id, 2) }
    guard let stored = rules.stored(Array(path[(slash + 1)...])), path.count - Self.root.count - 1 <= rules.maxPath else {
      return ScriptedServer.status(id, 4, "Invalid argument")
    }
    guard state.entries[rules.key(path)] == nil else { return ScriptedServer.status(id, 4, "exists") }
    guard state.entries.count < rules.room else { return ScriptedServer.status(id, 4, "No space left on device") }
    state.entries[rules.key(path)] = Entry(name: stored, parent: parent, isFolder: isFolder)
    return nil
  }

  private func list(_ handle: [UInt8], _ id: UInt32, _ state: inout State) -> [UInt8] {
    guard let key = state.listings.removeValue(forKey: handle) else { return ScriptedServer.status(id, 1) }
    let found = state.entries.values.filter { $0.parent == key && rules.listed($0.name) }
    guard !found.isEmpty else { return ScriptedServer.status(id, 1) }
    let items = found.reduce(into: ScriptedServer.number(UInt32(found.count))) { bytes, entry in
      bytes += ScriptedServer.string(entry.name) + ScriptedServer.string("") + Self.attributes(isFolder: entry.isFolder)
    }
    return ScriptedServer.packet(104, id, items)
  }

  private static func attributes(isFolder: Bool) -> [UInt8] {
    ScriptedServer.number(5) + [UInt8](repeating: 0, count: 8) + ScriptedServer.number(isFolder ? 0o040755 : 0o100644)
  }

  private static func string(_ body: [UInt8], at offset: Int) -> [UInt8] {
    guard body.count >= offset + 4 else { return [] }
    let length = body[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) }
    return Array(body[min(offset + 4, body.count)..<min(offset + 4 + length, body.count)])
  }
}
