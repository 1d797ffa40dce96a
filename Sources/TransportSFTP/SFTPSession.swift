import SyncModel
import Transport

/// A session with an SFTP server: `TransportSession` over an `SFTPClient`. Dropping the last reference ends its connection and thread.
package final class SFTPSession: TransportSession {
  package let capabilities: TransportCapabilities
  /// Who speaks SSH here and in what version, for display.
  package let carrier: String
  /// `SHA256:…`, as OpenSSH writes it.
  package let hostKeyFingerprint: String
  /// What the server announced and this client uses.
  package let extensions: Set<SFTPExtension>
  /// What the server said to `limits@openssh.com`; nil where it was not asked.
  package let limits: SFTPLimits?
  let client: SFTPClient

  /// Takes over a client that is open.
  package init(_ client: SFTPClient) async {
    self.client = client
    let abilities = await client.abilities
    extensions = abilities.extensions
    limits = abilities.limits
    carrier = abilities.carrier
    hostKeyFingerprint = abilities.hostKeyFingerprint
    capabilities = TransportCapabilities(
      server: abilities.server, atomicPublish: true, atomicReplace: extensions.contains(.posixRename), resumesFiles: true,
      durableFlush: extensions.contains(.fsync), reportsFreeSpace: extensions.contains(.statvfs), symlinks: true,
      preferredWriteSize: max(abilities.writeSize, 128 * 1024), joinsUploads: true)
  }

  package func makeFolder(_ path: RemotePath) async throws(TransportError) { try await client.makeFolder(path) }

  package func entry(at path: RemotePath) async throws(TransportError) -> RemoteEntry? { try await client.entry(at: path) }

  package func list(_ folder: RemotePath) async throws(TransportError) -> [RemoteEntry] { try await client.list(folder) }

  package func put(
    _ content: [UInt8], at path: RemotePath, modified: Int64?, mode: UInt32?, durable: Bool
  ) async throws(TransportError) {
    try await client.put(content, at: path, modified: modified, mode: mode, durable: durable)
  }

  package func put(
    _ files: [WholeFile], durable: Bool, next: @Sendable (Int) throws(TransportError) -> Void
  ) async throws(TransportError) {
    try await client.put(files, durable: durable, next: next)
  }

  package func beginUpload(_ path: RemotePath, resumingAt offset: UInt64) async throws(TransportError) -> UploadHandle {
    try await client.beginUpload(path, resumingAt: offset)
  }

  package func joinUpload(_ path: RemotePath) async throws(TransportError) -> UploadHandle { try await client.joinUpload(path) }

  package func write(_ chunk: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError) {
    try await client.write(chunk, at: offset, to: handle)
  }

  package func flush(_ handle: UploadHandle, durable: Bool) async throws(TransportError) {
    try await client.flush(handle, durable: durable)
  }

  package func finishUpload(_ handle: UploadHandle, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    try await client.finishUpload(handle, modified: modified, mode: mode, durable: durable)
  }

  package func abandonUpload(_ handle: UploadHandle) async { await client.abandonUpload(handle) }

  package func download(
    _ path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) {
    try await client.download(path, from: offset, body)
  }

  package func makeSymlink(at path: RemotePath, target: [UInt8]) async throws(TransportError) {
    try await client.makeSymlink(at: path, target: target)
  }

  package func symlinkTarget(of path: RemotePath) async throws(TransportError) -> [UInt8] { try await client.symlinkTarget(of: path) }

  package func setModified(_ path: RemotePath, to seconds: Int64) async throws(TransportError) {
    try await client.setModified(path, to: seconds)
  }

  package func publish(_ path: RemotePath, as final: RemotePath) async throws(TransportError) { try await client.publish(path, as: final) }

  package func replace(_ path: RemotePath, over final: RemotePath) async throws(TransportError) {
    try await client.replace(path, over: final)
  }

  package func removeFile(_ path: RemotePath) async throws(TransportError) { try await client.removeFile(path) }

  package func removeTree(_ path: RemotePath) async throws(TransportError) { try await client.removeTree(path) }

  package func freeSpace(at path: RemotePath) async throws(TransportError) -> UInt64? {
    try await client.fileSystem(at: path)?.availableBytes
  }

  package func interrupt() { client.interrupt() }

  package func close() async { await client.close() }
}
