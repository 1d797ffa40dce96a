import Executors
import SyncModel
import Transport

/// Hashing a large file while it is written: what has arrived is still in the NAS's memory then, and when the last byte is there little is left to hash.
extension RemoteShell {
  /// Over a connection of its own, since this goes on for as long as the file takes to arrive; others have their files hashed meanwhile.
  package nonisolated func digest(of path: RemotePath, whileWritten growth: FileGrowth) async throws(TransportError) -> ContentDigest? {
    // A line of standard input names it.
    guard let place = place, path.root == place.sftpRoot else { return nil }
    let name = Self.join(place.shellRoot, path)
    guard !name.contains(UInt8(ascii: "\n")) else { return nil }
    let wake = WakeSignal()
    growth.listen { wake.raise() }
    defer { growth.listen {} }
    return try await withCompanion { (shell) throws(TransportError) in
      try shell.follow(name, place.program.followingCommand, growth, wake)
    }
  }

  /// Blocks the calling thread until the file is whole and hashed.
  private func follow(
    _ name: [UInt8], _ command: RemoteCommand, _ growth: FileGrowth, _ wake: WakeSignal
  ) throws(TransportError) -> ContentDigest? {
    guard let channel = try channel(for: command) else { return nil }
    defer { channel.close() }
    growth.begin()
    var script = FollowedScript(name)
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    var deadline: Deadline?
    while true {
      if interrupter.isInterrupted { throw .interruptedConnection }
      // Also where something moves: a far side that always says something would be listened to for ever.
      if let deadline, deadline.hasPassed { return nil }
      wake.clear()
      let now = growth.now
      if now.end == .abandoned { return nil }
      if now.end == .whole, deadline == nil { deadline = Deadline(after: silence(for: now.bytes)) }
      var moved = try script.advance(channel, now)
      switch try RemoteCommand.read(channel, &buffer) {
      case .bytes(let count):
        output += buffer[..<count]
        // A login profile may say something, too.
        guard output.count <= 64 << 10 else { return nil }
        moved = true
      // One that ends before it was told the end has hashed a part.
      case .endOfStream: return script.input.isOver && now.end == .whole ? Self.digest(in: output) : nil
      case .wouldBlock: break
      }
      // What it complains of is of no use to anybody: the file is hashed when it is whole, and whoever does that says what is wrong.
      _ = try RemoteCommand.readError(channel, &buffer)
      if moved { continue }
      let next = Deadline(after: .milliseconds(try channel.keepAlive()))
      let until = deadline.map { $0.moment < next.moment ? $0 : next } ?? next
      let descriptors = channel.pollDescriptors(wantsWrite: script.input.hasMore) + [(wake.descriptor, 1)]
      _ = waitUntilReady(descriptors, interruption: interrupter.descriptor, deadline: until)
    }
  }

  /// The one digest of an answer that ended well.
  static func digest(in output: [UInt8]) -> ContentDigest? {
    guard let answer = unframe(output), answer.status == 0, answer.lines.count == 1, let line = answer.lines.first else { return nil }
    guard line.count == 64 || line.dropFirst(64).first == UInt8(ascii: " ") else { return nil }
    return ContentDigest(hex: line.prefix(64))
  }
}

/// What the far side is told of a growing file.
private struct FollowedScript {
  private(set) var input: CommandInput
  /// MiB told of.
  private var told: UInt64 = 0

  init(_ name: [UInt8]) { input = CommandInput(name + [UInt8(ascii: "\n")]) }

  /// - Returns: Whether anything moved.
  mutating func advance(_ channel: any SSHChannel, _ now: (bytes: UInt64, end: FileGrowth.End)) throws(TransportError) -> Bool {
    if input.wantsMore {
      let units = now.bytes >> 20
      if units > told {
        input.append(Array("\(units - told)\n".utf8))
        told = units
      } else if now.end == .whole {
        input.append(Array("end\n".utf8))
        input.finish()
      }
    }
    return try input.advance(channel)
  }
}
