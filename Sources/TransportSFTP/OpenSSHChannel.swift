import Executors
import Glibc
import SyncModel
import Transport

/// A channel that a running `ssh` carries: its standard input and output are the channel's, and when it ends the channel does.
final class OpenSSHChannel: SSHChannel {
  private let process: OpenSSHProcess
  private let settings: SFTPSettings
  private let place: (host: String, port: UInt16)?
  private let purpose: SSHChannelPurpose
  /// What it has said so far.
  private(set) var log = OpenSSHLog()
  private var logEnded = false
  private var outputEnded = false
  private var isClosed = false
  private var buffer = [UInt8](repeating: 0, count: 8 * 1024)

  /// How long ssh may take to end once it has closed its output.
  private static let endPatience = Duration.seconds(3)

  /// - Parameter place: The host's true name and port, where the configuration has others.
  init(process: OpenSSHProcess, settings: SFTPSettings, place: (host: String, port: UInt16)?, purpose: SSHChannelPurpose) {
    self.process = process
    self.settings = settings
    self.place = place
    self.purpose = purpose
  }

  deinit { close() }

  /// Waits until the server has let the user in.
  func awaitLogin(by deadline: Deadline, interrupter: Interrupter) throws(TransportError) {
    while true {
      readLog()
      if log.stage == .loggedIn { return }
      if logEnded || process.awaitEnd(.zero, interrupter: nil) {
        // It may have logged in, done all it was to do and ended since the look before.
        readLog()
        if log.stage == .loggedIn { return }
        throw failure()
      }
      let descriptors = [(process.error.number, Int16(POLLIN)), (process.endDescriptor, Int16(POLLIN))]
      switch waitUntilReady(descriptors, interruption: interrupter.descriptor, deadline: deadline) {
      case .ready: break
      case .interrupted: throw .interruptedConnection
      case .timedOut: throw late()
      }
    }
  }

  private func late() -> TransportError {
    let name = displayText(settings.host)
    switch log.stage {
    case .starting, .connecting:
      return .lostConnection(
        .timeout, "\(name) does not answer", hint: "Check that the NAS is up, and that no firewall drops connections to that port.")
    case .connected, .loggedIn:
      return .lostConnection(
        .timeout, "no answer while logging in to \(name)", hint: "Check that the NAS is up and not overloaded; it is tried again.")
    }
  }

  // MARK: Reading

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !isClosed else { throw gone }
    if outputEnded { return .endOfStream }
    guard buffer.count > 0 else { return .bytes(0) }
    let count = Glibc.read(process.output.number, buffer.baseAddress, buffer.count)
    if count > 0 { return .bytes(count) }
    if count < 0, errno == EAGAIN || errno == EINTR { return .wouldBlock }
    outputEnded = true
    try judgeEnd()
    return .endOfStream
  }

  func readError(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !isClosed else { throw gone }
    readLog()
    let taken = log.takeComplaints(buffer.count)
    guard !taken.isEmpty else { return logEnded || outputEnded ? .endOfStream : .wouldBlock }
    buffer.copyBytes(from: taken)
    return .bytes(taken.count)
  }

  /// Takes what ssh has written about itself; as often as there is something, so that it never waits for us.
  private func readLog() {
    while !logEnded {
      let count = Glibc.read(process.error.number, &buffer, buffer.count)
      if count > 0 {
        log.feed(buffer.prefix(count))
      } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
        logEnded = true
        log.finish()
      } else if errno == EAGAIN {
        return
      }
    }
  }

  // MARK: Writing

  func write(_ buffer: UnsafeRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !isClosed, let input = process.input else { throw gone }
    guard buffer.count > 0 else { return .bytes(0) }
    let count = Glibc.write(input.number, buffer.baseAddress, buffer.count)
    if count > 0 { return .bytes(count) }
    if count < 0, errno == EAGAIN || errno == EINTR { return .wouldBlock }
    // The far side reads no more. A command may have an answer all the same; an SFTP session is over.
    if purpose == .sftp { try judgeEnd() }
    return .endOfStream
  }

  func sendEndOfInput() throws(TransportError) -> CarrierResult {
    guard !isClosed else { throw gone }
    process.closeInput()
    return .bytes(0)
  }

  // MARK: Waiting

  func pollDescriptors(wantsWrite: Bool) -> [(descriptor: Int32, events: Int16)] {
    guard !isClosed else { return [] }
    var descriptors: [(descriptor: Int32, events: Int16)] = []
    if !outputEnded { descriptors.append((process.output.number, Int16(POLLIN))) }
    if !logEnded { descriptors.append((process.error.number, Int16(POLLIN))) }
    if wantsWrite, let input = process.input { descriptors.append((input.number, Int16(POLLOUT))) }
    return descriptors
  }

  /// ssh asks the server for signs of life by itself, and ends when none come.
  func keepAlive() throws(TransportError) -> Int {
    guard !isClosed else { throw gone }
    return 60_000
  }

  // MARK: The end

  func exitStatus() -> Int32? {
    guard outputEnded, log.hasExitReport, let status = process.status else { return nil }
    guard let code = OpenSSHProcess.exitCode(status), code != 255 else { return nil }
    return code
  }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    process.end()
  }

  /// ssh has closed its output: waits for its end and looks whether the connection was the cause.
  /// - Throws: What the connection failed of. A channel that simply ended is none.
  private func judgeEnd() throws(TransportError) {
    process.closeInput()
    let hasEnded = process.awaitEnd(Self.endPatience, interrupter: nil)
    readLog()
    log.finish()
    let code = process.status.flatMap(OpenSSHProcess.exitCode)
    if hasEnded, log.hasExitReport || (code != nil && code != 255) { return }
    throw failure()
  }

  /// What ssh failed of; it is gone afterwards.
  private func failure() -> TransportError {
    // What it says last comes with its end.
    _ = process.awaitEnd(Self.endPatience, interrupter: nil)
    readLog()
    log.finish()
    let signal = process.status.map { $0 & 0x7f }
    let code = process.status.flatMap(OpenSSHProcess.exitCode)
    return OpenSSHFailure(settings: settings, place: place, purpose: purpose, log: log, exit: code, signal: signal == 0 ? nil : signal)
      .error
  }

  private var gone: TransportError {
    .lostConnection(.network, "the channel to \(displayText(settings.host)) is closed", hint: "It is opened again when it is needed.")
  }
}
