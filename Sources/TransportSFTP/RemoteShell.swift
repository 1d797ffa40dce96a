import Executors
import Synchronization
import SyncModel
import Transport

/// What was found out about the shell of a destination, for display.
package struct RemoteShellFacts: Hashable, Sendable, Codable {
  /// Where the shell sees the destination's `remote_root`, escaped for display.
  package var shellRoot: String
  /// The hashing program, as `openssl dgst`.
  package var program: String
  /// Whether names with line feeds and backslashes can be hashed there, too.
  package var hashesAnyName: Bool
  /// Whether there is a program to flush a file system with; whether it can shows when it is used.
  package var canSync: Bool
  /// Whether there is a program that unpacks a stream of files.
  package var canUnpack: Bool
}

/// What came of looking for a shell.
package enum RemoteShellOutcome: Sendable {
  case available(RemoteShell, RemoteShellFacts)
  /// A sentence for people. The destination works without: files are read back.
  /// `isLasting`: whether that will be so the next time, too.
  case unavailable(reason: String, isLasting: Bool)
}

/// Hashes files on the NAS itself, by commands over its own SSH connection.
///
/// SFTP and shell often show one folder under two paths (a chroot for SFTP, volumes on a NAS); `open` finds the shell's by a file of random
/// content and believes nothing else. The connection stays open between calls and is made again where it was lost meanwhile.
package actor RemoteShell: RemoteHasher {
  private nonisolated let executor = ThreadExecutor(name: "shell")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
  nonisolated let interrupter: Interrupter
  /// Those that hash a growing file or unpack a stream each, and are interrupted with this one.
  nonisolated let companions = Mutex<[RemoteShell]>([])
  /// One that logs in before anybody wants it.
  nonisolated let spare = Mutex<Spare?>(nil)
  /// What was found out, for them: nobody has to wait for the thread of this one.
  private nonisolated let found = Mutex<Place?>(nil)
  /// Until then no companion is asked for: one was not let in.
  nonisolated let refusal = Mutex<Deadline?>(nil)
  nonisolated let settings: SFTPSettings
  nonisolated let connector: SSHConnector
  nonisolated let hashingSilence: Duration
  nonisolated let gate: HandshakeGate?
  var connection: (any SSHConnection)?
  /// The shell that is kept over the connection, where that is possible.
  private var conversation: ShellConversation?
  var conversing = Conversing.no

  /// Whether the shell takes command after command over one channel.
  enum Conversing { case no, untried, yes }
  private var isClosed = false
  /// What no shell is behind may wait for ever for what it takes for its input; a shell that needs longer is asked command by command.
  private static let longestGreeting = Duration.seconds(10)

  /// The destination's root as SFTP names it, and as the shell does.
  var sftpRoot: [UInt8] = []
  var shellRoot: [UInt8] = []
  var program = HashProgram.openssl
  var programForOddNames: HashProgram?
  var hasSync = false
  var hasTar = false
  /// Permission bits that SFTP gives a file there; nil where it does not say.
  private var fileMode: UInt32?
  /// Of the NAS; 1 where it does not say.
  var processors = 1

  init(
    settings: SFTPSettings, connector: @escaping SSHConnector, hashingSilence: Duration, gate: HandshakeGate?, interrupter: Interrupter
  ) {
    self.gate = gate
    self.settings = settings
    self.connector = connector
    self.hashingSilence = hashingSilence
    self.interrupter = interrupter
  }

  isolated deinit {
    connection?.close()
    executor.shutdown()
  }

  /// Looks for a shell and for a way to hash the destination's files with it. Cancelling the task interrupts it.
  /// - Parameters:
  ///   - probe: A file that the caller has just written over SFTP, with a name that nothing else has.
  ///   - content: What is in it: random, at least 16 bytes.
  ///   - hashingSilence: How long hashing may take without a byte of output: one file can be very large.
  ///   - gate: Entered by each further log-in; the caller has entered it for this one.
  ///   - expectingCompanion: Has a second connection log in meanwhile: something is about to be unpacked.
  /// - Throws: Where the network or the login fails; a missing or useless shell is an outcome.
  package static func open(
    settings: SFTPSettings, connector: @escaping SSHConnector, probe: RemotePath, content: [UInt8],
    hashingSilence: Duration = .seconds(4 * 3600), gate: HandshakeGate? = nil, interrupter: Interrupter = Interrupter(),
    expectingCompanion: Bool = false
  ) async throws(TransportError) -> RemoteShellOutcome {
    let shell = RemoteShell(
      settings: settings, connector: connector, hashingSilence: hashingSilence, gate: gate, interrupter: interrupter)
    let found: Result<Exploration, TransportError> = await withTaskCancellationHandler {
      do throws(TransportError) { return .success(try await shell.explore(probe, content, expectingCompanion)) } catch {
        return .failure(error)
      }
    } onCancel: {
      interrupter.interrupt()
    }
    if case .failure = found { await shell.dismissSpare() }
    switch try found.get() {
    case .usable(let facts):
      await shell.settleDown()
      return .available(shell, facts)
    case .useless(let reason, let isLasting):
      await shell.close()
      return .unavailable(reason: reason, isLasting: isLasting)
    }
  }

  private func settleDown() {
    found.withLock { $0 = Place(sftpRoot: sftpRoot, shellRoot: shellRoot, program: program, fileMode: hasTar ? fileMode : nil) }
  }

  package nonisolated var evidence: Evidence { .server }

  /// Makes the calls in flight throw at once. The shell cannot be used again.
  package nonisolated func interrupt() {
    interrupter.interrupt()
    for companion in companions.withLock({ $0 }) { companion.interrupt() }
  }

  /// What was found out stays known: the next command logs in and no more.
  package func rest() async {
    drop()
    await dismissSpare()
  }

  /// Says what permission bits SFTP gives a file there. Without that nothing is unpacked.
  func learn(fileMode: UInt32?) {
    self.fileMode = fileMode.map { $0 & 0o777 }
    settleDown()
  }

  /// Where files lie, what hashes them, and with what permission bits they are unpacked; nil where this one is over.
  struct Place: Sendable {
    let sftpRoot: [UInt8]
    let shellRoot: [UInt8]
    let program: HashProgram
    let fileMode: UInt32?
  }
  nonisolated var place: Place? { found.withLock { $0 } }

  package func close() async {
    found.withLock { $0 = nil }
    isClosed = true
    connection?.close()
    connection = nil
    await dismissSpare()
  }

  // MARK: Hashing

  /// All in one command, or in two where some names need another program. Without such a program those files have no digest in the result.
  /// Cancelling the task interrupts the shell for good.
  package func digests(
    of paths: [RemotePath], progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    try await digests(of: paths, bytes: nil, silence: hashingSilence, progress: progress)
  }

  /// The same, waiting for as long as a slow NAS takes to read and hash so many bytes.
  package func digests(
    of paths: [RemotePath], bytes: UInt64, progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    try await digests(of: paths, bytes: bytes, silence: silence(for: bytes), progress: progress)
  }

  func silence(for bytes: UInt64) -> Duration {
    settings.progressTimeout * 2 + .seconds(Int64(clamping: min(bytes, Self.mostBytes) / Self.slowestRate))
  }

  /// Bytes a second that the slowest NAS reads and hashes while it does other things, too.
  private static let slowestRate: UInt64 = 2_000_000
  /// 64 TiB: more is a size that nobody has.
  private static let mostBytes: UInt64 = 1 << 46

  private func digests(
    of paths: [RemotePath], bytes: UInt64?, silence: Duration, progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    var plain: [RemotePath] = []
    var odd: [RemotePath] = []
    var seen: Set<RemotePath> = []
    for path in paths where seen.insert(path).inserted {
      let name = try shellPath(of: path)
      if program.prints(name) { plain.append(path) } else { odd.append(path) }
    }
    var result: [RemotePath: ContentDigest] = [:]
    result.reserveCapacity(seen.count)
    var rounds = [(plain, program)]
    if let programForOddNames { rounds.append((odd, programForOddNames)) }
    for (group, program) in rounds where !group.isEmpty {
      let before = result.count
      let names: @Sendable (Int) -> [UInt8] = { [shellRoot] index in RemoteShell.join(shellRoot, group[index]) }
      let digests: [ContentDigest?]
      if let bytes, bytes >= Self.sharedBytes, processors > 1, group.count > 1, admitsCompanions {
        digests = try await hashTogether(group.count, with: program, silence: silence, names) { progress(before + $0) }
      } else {
        digests = try await interruptibly { (shell) throws(TransportError) in
          try shell.hash(group.count, with: program, silence: silence, names) { progress(before + $0) }
        }
      }
      for (path, digest) in zip(group, digests) { if let digest { result[path] = digest } }
    }
    return result
  }

  /// Asks the far side to write what it has of a file system to its disk.
  /// - Returns: Whether it said that it did.
  /// - Throws: Also where it says nothing at all: that is no answer.
  package func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool {
    guard hasSync else { return false }
    let name = try shellPath(of: path)
    return try await interruptibly { (shell) throws(TransportError) in
      // Whatever the NAS has in memory goes to its disks: longer than any other command.
      let silence = shell.settings.progressTimeout * 10
      do throws(RemoteCommand.Refusal) {
        let output = try shell.collect(RemoteCommand(script: "xargs -0 sync -f"), input: name + [0], silence: silence)
        return RemoteShell.unframe(output)?.status == 0
      } catch {
        shell.drop()
        switch error {
        case .failed(let error): throw error
        case .denied: return false
        case .silent:
          throw .lostConnection(
            .timeout, "\(displayText(shell.settings.host)) has not written what it has to its disks in \(silence)",
            hint: "Look whether the NAS is overloaded, or a disk of it is failing.")
        }
      }
    }
  }

  func interruptibly<Answer: Sendable>(
    _ body: (isolated RemoteShell) throws(TransportError) -> Answer
  ) async throws(TransportError) -> Answer {
    guard !Task.isCancelled, !isClosed else { throw .interruptedConnection }
    let result: Result<Answer, TransportError> = await withTaskCancellationHandler {
      do throws(TransportError) { return .success(try body(self)) } catch { return .failure(error) }
    } onCancel: {
      interrupter.interrupt()
    }
    return try result.get()
  }

  private func shellPath(of path: RemotePath) throws(TransportError) -> [UInt8] {
    guard path.root == sftpRoot else {
      throw .failure(
        SyncFailure(.misconfigured, "\(path) is not below the folder that was probed", hint: "Run `nassync check`."), sessionLost: false)
    }
    return RemoteShell.join(shellRoot, path)
  }

  static func join(_ shellRoot: [UInt8], _ path: RemotePath) -> [UInt8] {
    guard let relative = path.relative else { return shellRoot.isEmpty ? [UInt8(ascii: "/")] : shellRoot }
    return shellRoot + [UInt8(ascii: "/")] + relative.bytes
  }

  /// From so much on a log-in is worth having it hashed by two processes.
  private static let sharedBytes: UInt64 = 256 << 20

  func hash(
    _ count: Int, with program: HashProgram, silence: Duration, _ name: @escaping (Int) -> [UInt8], progress: (Int) -> Void
  ) throws(TransportError) -> [ContentDigest?] {
    do throws(RemoteCommand.Refusal) {
      return try tryHashing(count, with: program, silence: silence, name, progress: progress).digests
    } catch {
      drop()
      switch error {
      case .failed(let error): throw error
      case .denied: throw incomprehensible("it runs no commands any more")
      case .silent:
        throw .lostConnection(
          .timeout, "\(displayText(settings.host)) has not hashed a file in \(silence)", hint: "Look whether the NAS is overloaded.")
      }
    }
  }

  /// One hashing command. A failed connection is dropped by the caller.
  func tryHashing(
    _ count: Int, with program: HashProgram, silence: Duration, _ name: @escaping (Int) -> [UInt8], progress: (Int) -> Void = { _ in }
  ) throws(RemoteCommand.Refusal) -> HashAnswer {
    var answer = HashAnswer(program: program, count: count, name: name)
    let length = (0..<count).reduce(0) { $0 + name($1).count + 1 }
    let complaints = try run(program.command, length: length, silence: silence) {
      var sent = 0
      return {
        guard sent < count else { return nil }
        var piece: [UInt8] = []
        while sent < count, piece.count < 32 * 1024 {
          piece += name(sent)
          piece.append(0)
          sent += 1
        }
        return piece
      }
    } output: { (bytes) throws(TransportError) in
      do throws(HashAnswer.Malformed) { try answer.feed(bytes) } catch { throw incomprehensible(error.description) }
      progress(answer.position)
    } isDone: {
      answer.isComplete
    }
    do throws(HashAnswer.Malformed) {
      try answer.finish()
    } catch {
      let words = complaints.isEmpty ? "" : ", saying “\(displayText(of: complaints.suffix(200)))”"
      throw .failed(incomprehensible(error.description + words))
    }
    return answer
  }

  private func incomprehensible(_ what: String) -> TransportError {
    .lostConnection(
      .protocol, "the answer of \(displayText(settings.host))'s hashing program is not understood: \(what)",
      hint: "Nothing of it is believed. It is tried again; `verify: { method: readback }` does without.")
  }

  // MARK: Commands

  /// An answer framed by the two marks.
  struct FramedAnswer: Sendable {
    let lines: [ArraySlice<UInt8>]
    let status: Int
  }

  /// Runs a command with a small answer. Nil where the shell did not answer as a shell does.
  func ask(_ command: RemoteCommand, input: [UInt8], silence: Duration) throws(TransportError) -> FramedAnswer? {
    do throws(RemoteCommand.Refusal) {
      let output = try collect(command, input: input, silence: silence)
      return RemoteShell.unframe(output)
    } catch {
      drop()
      if case .failed(let error) = error { throw error }
      return nil
    }
  }

  func collect(_ command: RemoteCommand, input: [UInt8], silence: Duration) throws(RemoteCommand.Refusal) -> [UInt8] {
    var output: [UInt8] = []
    _ = try run(command, length: input.count, silence: silence) {
      var input: [UInt8]? = input.isEmpty ? nil : input
      return {
        defer { input = nil }
        return input
      }
    } output: { (bytes) throws(TransportError) in
      output += bytes
      // 20,000 folders fit many times.
      if output.count > 8 << 20 { throw incomprehensible("it does not end") }
    } isDone: {
      // Only where it ends like an answer is it looked at as a whole: it may come byte by byte.
      RemoteShell.mayBeAtEnd(output) && RemoteShell.unframe(output) != nil
    }
    return output
  }

  /// Whether the last line is a mark of the end.
  private static func mayBeAtEnd(_ output: [UInt8]) -> Bool {
    guard output.last == UInt8(ascii: "\n") else { return false }
    let tail = output.suffix(RemoteCommand.end.count + 8).dropLast()
    return (tail.lastIndex(of: UInt8(ascii: "\n")).map { tail[($0 + 1)...] } ?? tail).starts(with: RemoteCommand.end)
  }

  /// The lines between the marks; nil where they are not there, or anything follows the second.
  static func unframe(_ output: [UInt8]) -> FramedAnswer? {
    let lines = output.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    guard let begin = lines.firstIndex(where: { $0.elementsEqual(RemoteCommand.begin.dropLast()) }), lines.last?.isEmpty == true,
      let last = lines.dropLast().last, last.starts(with: RemoteCommand.end), lines.count - 2 > begin,
      let status = Int(String(decoding: last.dropFirst(RemoteCommand.end.count), as: UTF8.self))
    else { return nil }
    return FramedAnswer(lines: Array(lines[(begin + 1)..<(lines.count - 2)]), status: status)
  }

  /// Runs a command over the connection, which is made where there is none. One that was lost while it lay idle is made again, once.
  /// - Parameters:
  ///   - length: How many bytes of input there are.
  ///   - input: Begins the input anew: what it gives gives the next piece, nil at the end.
  ///   - isDone: Whether the output so far is the whole answer.
  private func run(
    _ command: RemoteCommand, length: Int, silence: Duration, input: () -> () -> [UInt8]?,
    output: (ArraySlice<UInt8>) throws(TransportError) -> Void, isDone: () -> Bool
  ) throws(RemoteCommand.Refusal) -> [UInt8] {
    var hasAnswered = false
    func once() throws(RemoteCommand.Refusal) -> [UInt8] {
      let taken = { (bytes: ArraySlice<UInt8>) throws(TransportError) in
        hasAnswered = true
        try output(bytes)
      }
      guard let shell = try conversation(by: min(settings.progressTimeout, Self.longestGreeting)) else {
        return try command.run(on: try connected(), interrupter: interrupter, silence: silence, input: input(), output: taken)
      }
      let complaints: [UInt8]?
      do throws(TransportError) {
        complaints = try shell.run(
          command, length: length, interrupter: interrupter, silence: silence, input: input(), output: taken, isDone: isDone)
      } catch {
        // What is not understood may be this way of asking: from now on each command has a channel of its own.
        if error.failure.kind == .protocol { conversing = .no }
        throw .failed(error)
      }
      guard let complaints else { throw .silent }
      return complaints
    }
    let reused = connection != nil
    do throws(RemoteCommand.Refusal) { return try once() } catch {
      // Every command can be given again.
      guard reused, !hasAnswered, case .failed(let failure) = error, failure.sessionLost, !interrupter.isInterrupted else { throw error }
      drop()
      return try once()
    }
  }

  /// The shell that is talked to, begun where there is none; nil where each command needs a channel of its own.
  private func conversation(by silence: Duration) throws(RemoteCommand.Refusal) -> ShellConversation? {
    if conversing == .no { return nil }
    if let conversation { return conversation }
    let connection = try connected()
    do throws(TransportError) {
      conversation = try ShellConversation.open(on: connection, interrupter: interrupter, silence: silence)
    } catch {
      if interrupter.isInterrupted || conversing == .yes { throw .failed(error) }
    }
    // Some servers end the connection when they are asked for something unusual. What is wrong with the network shows with the next question.
    if conversation == nil { drop() }
    conversing = conversation == nil ? .no : .yes
    return conversation
  }

  private func connected() throws(RemoteCommand.Refusal) -> any SSHConnection {
    do throws(TransportError) { return try connect() } catch { throw .failed(error) }
  }

  /// The connection, made where there is none.
  @discardableResult func connect() throws(TransportError) -> any SSHConnection {
    if let connection { return connection }
    if interrupter.isInterrupted || isClosed { throw .interruptedConnection }
    let made = try connector(settings, interrupter)
    connection = made
    return made
  }

  /// A channel for a command of its own; nil where the far side runs none.
  func channel(for command: RemoteCommand) throws(TransportError) -> (any SSHChannel)? {
    let connection = try connect()
    do throws(TransportError) { return try connection.openChannel(.exec(command.text)) } catch {
      if case .unsupported = error { return nil }
      throw error
    }
  }

  /// Ends the connection so that nothing more of what was sent is taken there.
  func abort() {
    connection?.abort()
    drop()
  }

  func drop() {
    conversation?.close()
    conversation = nil
    connection?.close()
    connection = nil
  }
}
