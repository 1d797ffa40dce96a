import SyncModel
import Transport

/// What a channel is opened for.
package enum SSHChannelPurpose: Hashable, Sendable {
  /// The `sftp` subsystem.
  case sftp
  /// One command, run by the login shell on the far side: a constant text, never built from file names.
  case exec(String)
}

/// The result of one non-blocking read or write on a channel.
package enum CarrierResult: Hashable, Sendable {
  case bytes(Int)
  /// Nothing now: poll by `pollDescriptors` and try again.
  case wouldBlock
  /// The far side closed its end.
  case endOfStream
}

/// A byte channel over SSH. Non-blocking; used on one thread only, its owner's, hence not `Sendable`.
///
/// After any thrown error the channel and its connection are unusable.
package protocol SSHChannel: AnyObject {
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult
  func write(_ buffer: UnsafeRawBufferPointer) throws(TransportError) -> CarrierResult
  /// Standard error of an exec channel (the sftp subsystem's own complaints, too), as far as it has arrived; bounded.
  func readError(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult
  /// Tells the far side that no more input comes. Non-blocking: `.wouldBlock` means call again; `.bytes(0)` is done.
  func sendEndOfInput() throws(TransportError) -> CarrierResult
  /// Bytes that the far side has made room for and not been sent; nil where the carrier does not tell. Changes only with `read` and `write`.
  var room: Int? { get }
  /// Exit status of an exec, once the end of its output has been read; nil where the server sent none.
  func exitStatus() -> Int32?
  /// What to hand to `poll(2)` now, given whether the caller wants to read and has something to write.
  func pollDescriptors(wantsWrite: Bool) -> [(descriptor: Int32, events: Int16)]
  /// Sends a keepalive when one is due, and returns the milliseconds until the next. Throws when the far side stopped answering.
  func keepAlive() throws(TransportError) -> Int
  /// Closes the channel but keeps the connection for a next one, where possible.
  func close()
}

/// An SSH connection: host key checked, user logged in, at the latest once it has opened a channel. Used on one thread only.
package protocol SSHConnection: AnyObject {
  /// Opens a channel; blocks the calling thread until it is there, the deadline passes or the interrupter fires.
  func openChannel(_ purpose: SSHChannelPurpose) throws(TransportError) -> any SSHChannel
  /// Who speaks SSH here and in what version, for display.
  var carrier: String { get }
  /// Whether the server has let the user in. What fails afterwards is no matter of reaching it.
  var isLoggedIn: Bool { get }
  /// What the server calls itself (its SSH banner), escaped for display; empty until a channel was opened.
  var serverIdentification: String { get }
  /// The host key's fingerprint, `SHA256:…` as OpenSSH writes it; empty until a channel was opened.
  var hostKeyFingerprint: String { get }
  func close()
  /// Closes it so that nothing more of what was written reaches the far side, where the carrier can do that.
  func abort()
}

extension SSHConnection {
  /// As any end.
  package func abort() { close() }
}

extension SSHChannel {
  /// Of no use to most.
  package var room: Int? { nil }
}
