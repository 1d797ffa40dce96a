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
    let channel: any SSHChannel
    do throws(RemoteCommand.Refusal) {
      let connection = try connected()
      do throws(TransportError) { channel = try connection.openChannel(.exec(command.text)) } catch { throw .failed(error) }
    } catch {
      if case .failed(let error) = error { throw error }
      return nil
    }
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
      case .endOfStream: return script.isOver && now.end == .whole ? Self.digest(in: output) : nil
      case .wouldBlock: break
      }
      // What it complains of is of no use to anybody: the file is hashed when it is whole, and whoever does that says what is wrong.
      _ = try Self.readError(channel, &buffer)
      if moved { continue }
      let next = Deadline(after: .milliseconds(try channel.keepAlive()))
      let until = deadline.map { $0.moment < next.moment ? $0 : next } ?? next
      let descriptors = channel.pollDescriptors(wantsWrite: script.hasMore) + [(wake.descriptor, 1)]
      _ = waitUntilReady(descriptors, interruption: interrupter.descriptor, deadline: until)
    }
  }

  static func readError(_ channel: any SSHChannel, _ buffer: inout [UInt8]) throws(TransportError) -> CarrierResult {
    let result: Result<CarrierResult, TransportError> = buffer.withUnsafeMutableBytes { bytes in
      do throws(TransportError) { return .success(try channel.readError(into: bytes)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  /// The one digest of an answer that ended well.
  static func digest(in output: [UInt8]) -> ContentDigest? {
    guard let answer = unframe(output), answer.status == 0, answer.lines.count == 1, let line = answer.lines.first else { return nil }
    guard line.count == 64 || line.dropFirst(64).first == UInt8(ascii: " ") else { return nil }
    return ContentDigest(hex: line.prefix(64))
  }
}

/// What the far side is told of a growing file, and how much of that has gone out.
struct FollowedScript {
  private var outgoing: ArraySlice<UInt8>
  /// MiB told of.
  private var told: UInt64 = 0
  private var end = End.open
  private enum End { case open, named, said }

  init(_ name: [UInt8]) { outgoing = (name + [UInt8(ascii: "\n")])[...] }

  /// Whether something waits to go out.
  var hasMore: Bool { !outgoing.isEmpty || end == .named }

  /// Whether the far side has been told that the file is whole.
  var isOver: Bool { end == .said }

  /// - Returns: Whether anything moved.
  mutating func advance(_ channel: any SSHChannel, _ now: (bytes: UInt64, end: FileGrowth.End)) throws(TransportError) -> Bool {
    if outgoing.isEmpty, end == .open {
      let units = now.bytes >> 20
      if units > told {
        outgoing = Array("\(units - told)\n".utf8)[...]
        told = units
      } else if now.end == .whole {
        outgoing = Array("end\n".utf8)[...]
        end = .named
      }
    }
    if !outgoing.isEmpty {
      let bytes = outgoing
      let result: Result<CarrierResult, TransportError> = bytes.withUnsafeBytes { raw in
        do throws(TransportError) { return .success(try channel.write(raw)) } catch { return .failure(error) }
      }
      switch try result.get() {
      case .bytes(let count):
        outgoing = bytes.dropFirst(count)
        return count > 0
      case .wouldBlock: return false
      // It reads no more, and its output ends.
      case .endOfStream:
        outgoing = []
        end = .open
        return false
      }
    }
    guard end == .named, case .bytes = try channel.sendEndOfInput() else { return false }
    end = .said
    return true
  }
}
