import Executors
import SyncModel
import Transport

/// Writing many small files by the far side's `tar`: SFTP takes four requests for each, and its server a full core for what `tar` does in passing.
extension RemoteShell: RemoteUnpacker {
  package nonisolated var unpacker: (any RemoteUnpacker)? { place?.fileMode == nil ? nil : self }

  package nonisolated func weight(of file: WholeFile) -> Int { ArchiveStream.weight(of: file.content) }

  /// Unpacks in the folder that the first line of standard input names. No owner is taken over, permission bits are those of the
  /// archive, and a folder that is not there and should be is nobody else's.
  static let unpacking = RemoteCommand(script: #"umask 077; IFS= read -r d && cd "$d" && tar xpof -"#)

  /// A stream is closed and begun anew after so many files or bytes: only then it is known that they are there.
  private static let files = (short: 2_000, long: 16_000)
  private static let bytes = (short: 32 << 20, long: 128 << 20)

  /// How far the stream may be ahead of what `tar` has read, over a short way. OpenSSH's server keeps what is not read yet in one piece of memory, which
  /// it copies whole whenever it grows: 2 MiB of it take more time than unpacking them.
  private static let lead = 256 << 10

  /// Over a connection of its own: hashing goes on meanwhile.
  ///
  /// `tar` works in the folder above, and each name begins with the folder's: a `tar` that is given up for dead and is not must not write into what has
  /// the folder's contents by then, under the name that everybody sees.
  package nonisolated func unpack(_ feed: FileFeed, into folder: RemotePath, isFar: Bool) async throws(TransportError) {
    defer { feed.close() }
    guard let place, let mode = place.fileMode, folder.root == place.sftpRoot, let parent = folder.parent else { return }
    // A line of standard input names it.
    let name = Self.join(place.shellRoot, parent)
    guard !name.contains(UInt8(ascii: "\n")) else { return }
    let wake = WakeSignal()
    feed.listen { wake.raise() }
    let limits = (files: isFar ? Self.files.long : Self.files.short, bytes: isFar ? Self.bytes.long : Self.bytes.short)
    try await withCompanion { (shell) throws(TransportError) in
      do throws(TransportError) {
        var next = feed.take()
        var lead = isFar ? Int.max : Self.lead
        while true {
          switch next {
          case .end: return
          case .nothing:
            try shell.wait(for: wake)
            wake.clear()
            next = feed.take()
          case .portion(let first):
            var stream = UnpackedStream(name, folder: folder, mode: mode, limits: limits, lead: lead)
            guard let after = try shell.unpack(first, feed, &stream, wake) else { return shell.abort() }
            lead = stream.lead
            next = after
          }
        }
      } catch {
        shell.abort()
        throw error
      }
    }
  }

  /// Nothing is to be sent just now.
  private func wait(for wake: WakeSignal) throws(TransportError) {
    if interrupter.isInterrupted { throw .interruptedConnection }
    _ = waitUntilReady([(wake.descriptor, 1)], interruption: interrupter.descriptor, deadline: Deadline(after: .milliseconds(500)))
  }

  /// One stream, from its first files to the far side's word that all of them are written. Blocks the calling thread.
  /// - Returns: What the feed gave next; nil where the far side did not say so, and nothing more should be given to it.
  private func unpack(
    _ first: FileFeed.Portion, _ feed: FileFeed, _ stream: inout UnpackedStream, _ wake: WakeSignal
  ) throws(TransportError) -> FileFeed.Taken? {
    guard let channel = try channel(for: Self.unpacking) else { return nil }
    defer { channel.close() }
    feed.begin()
    stream.roomAtFirst = channel.room
    try stream.add(first)
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    var deadline = Deadline(after: settings.progressTimeout * 2)
    var next = FileFeed.Taken.nothing
    var heldSince: Deadline?
    while true {
      if interrupter.isInterrupted { throw .interruptedConnection }
      // Also where something is said: a far side that always says something would be listened to for ever.
      if deadline.hasPassed { return nil }
      wake.clear()
      if stream.input.wantsMore {
        next = feed.take()
        switch next {
        case .nothing: break
        case .portion(let portion) where !stream.isFull: try stream.add(portion)
        case .portion, .end: stream.finish()
        }
      }
      let sent = try stream.advance(channel)
      // Nothing is late where nothing is on its way.
      if sent || (!stream.input.hasMore && !stream.input.hasEnded) {
        deadline = Deadline(after: stream.input.hasEnded ? silence(for: UInt64(stream.bytes)) : settings.progressTimeout * 2)
      }
      switch try RemoteCommand.read(channel, &buffer) {
      case .bytes(let count):
        output += buffer[..<count]
        // A login profile may say something, too.
        guard output.count <= 64 << 10 else { return nil }
        continue
      case .endOfStream:
        // One that ends before it was told the end has not written everything.
        guard stream.input.isOver, let answer = Self.unframe(output), answer.status == 0 else { return nil }
        feed.confirm(stream.tags)
        return next
      case .wouldBlock: break
      }
      // What it complains of is of no use to anybody: its files are sent one by one then, and that says what is wrong.
      if case .bytes(let count) = try RemoteCommand.readError(channel, &buffer), count > 0 { continue }
      // A server that makes room only when most of it is used up is given all of it.
      if !stream.isHeld { heldSince = nil } else if heldSince == nil { heldSince = Deadline(after: .seconds(1)) }
      if let since = heldSince, since.hasPassed { stream.lead = .max }
      // Reading may have brought the word that there is room again.
      if sent || (stream.isHeld && stream.allowance(channel) > 0) { continue }
      let keepAlive = Deadline(after: .milliseconds(try channel.keepAlive()))
      var descriptors = channel.pollDescriptors(wantsWrite: stream.input.hasMore && !stream.isHeld)
      if stream.input.wantsMore { descriptors.append((wake.descriptor, 1)) }
      let soonest = [keepAlive, deadline, heldSince].compactMap { $0 }.min { $0.moment < $1.moment } ?? deadline
      _ = waitUntilReady(descriptors, interruption: interrupter.descriptor, deadline: soonest)
    }
  }
}

/// What one unpacking program is sent, and how much of that has gone out.
private struct UnpackedStream {
  private let folder: RemotePath
  private let mode: UInt32
  private let limits: (files: Int, bytes: Int)
  /// How far it may be ahead of what is read there.
  var lead: Int
  /// What the far side had room for before the first byte; nil where that is not known.
  var roomAtFirst: Int?
  /// Whether nothing is sent because the far side has enough to read.
  private(set) var isHeld = false
  private(set) var input: CommandInput
  private var length = 0
  private var files = 0
  /// Of the contents.
  private(set) var bytes = 0
  private(set) var tags: [Int] = []

  /// - Parameters:
  ///   - name: Of the folder that `tar` works in.
  ///   - folder: Below that, what the files lie in.
  init(_ name: [UInt8], folder: RemotePath, mode: UInt32, limits: (files: Int, bytes: Int), lead: Int) {
    self.lead = lead
    self.folder = folder
    self.mode = mode
    self.limits = limits
    input = CommandInput(name + [UInt8(ascii: "\n")])
  }

  /// Whether there is enough in it.
  var isFull: Bool { files >= limits.files || bytes >= limits.bytes }

  mutating func add(_ portion: FileFeed.Portion) throws(TransportError) {
    let base = folder.relative
    // With the slash, where there is one.
    let above = base?.parent.map { $0.bytes.count + 1 } ?? 0
    var named: [ArchiveStream.File] = []
    for file in portion.files {
      guard let base, file.path.root == folder.root, let place = file.path.relative, place != base, place.isWithin(base) else {
        throw .failure(
          SyncFailure(.protocol, "\(file.path) is not in the folder that is unpacked in", hint: "It is sent by itself."), sessionLost: false
        )
      }
      named.append(
        ArchiveStream.File(
          name: Array(place.bytes[above...]), content: file.content, modified: UInt32(clamping: file.modified ?? 0)))
    }
    let part = try ArchiveStream.part(named, mode: mode)
    input.append(part)
    length += part.count
    files += portion.files.count
    bytes += portion.bytes
    tags.append(portion.tag)
  }

  mutating func finish() {
    input.append(ArchiveStream.end(after: length))
    input.finish()
  }

  /// - Returns: Whether anything moved.
  mutating func advance(_ channel: any SSHChannel) throws(TransportError) -> Bool {
    let most = allowance(channel)
    isHeld = most == 0 && input.hasBytes
    return try isHeld ? false : input.advance(channel, atMost: most)
  }

  /// Bytes that may be sent now without being too far ahead.
  func allowance(_ channel: any SSHChannel) -> Int {
    guard lead < .max, let roomAtFirst, let room = channel.room else { return .max }
    return max(0, lead - max(0, roomAtFirst - room))
  }
}
