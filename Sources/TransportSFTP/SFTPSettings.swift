import Executors
import SyncModel
import Transport

/// Everything that says how one SFTP destination is reached: what the equipment profile gave, with the paths resolved. No secret is in it.
package struct SFTPSettings: Hashable, Sendable {
  /// Host name or address, as the known-hosts file names it.
  package var host: String
  /// TCP port.
  package var port: UInt16
  /// Login name.
  package var user: String
  /// Private key, an absolute path; nil where only the agent is used, or the keys that ssh's configuration names.
  package var keyFile: String?
  /// Whether the agent at `SSH_AUTH_SOCK` is asked.
  package var useAgent: Bool
  /// Known-hosts file, an absolute path. Unknown and changed keys are refused. Empty: those that ssh's configuration names.
  package var knownHostsFile: String
  /// The folder below which everything goes: absolute, or relative to the login folder.
  package var remoteRoot: String
  /// Limit on TCP connection, handshake and login together.
  package var connectTimeout: Duration
  /// A session with requests outstanding on which no byte moves for this long is given up.
  package var progressTimeout: Duration
  /// Seconds between keepalives of the SSH connection.
  package var keepAliveSeconds: UInt32
  /// Bytes handed to the session and not acknowledged yet, at most.
  package var windowBytes: Int
  /// Handshakes that one driver makes at the same time, at most: sshd's `MaxStartups` drops more than ten unauthenticated connections.
  package var handshakesAtOnce: Int
  /// A folder with more entries is taken for a server that lists without end.
  package var listingLimit: Int

  /// The defaults suit a NAS in the same building.
  package init(
    host: String, port: UInt16 = 22, user: String, keyFile: String?, useAgent: Bool = false, knownHostsFile: String, remoteRoot: String,
    connectTimeout: Duration = .seconds(20), progressTimeout: Duration = .seconds(60), keepAliveSeconds: UInt32 = 15,
    windowBytes: Int = 4 << 20, handshakesAtOnce: Int = 4, listingLimit: Int = 2_000_000
  ) {
    self.host = host
    self.port = port
    self.user = user
    self.keyFile = keyFile
    self.useAgent = useAgent
    self.knownHostsFile = knownHostsFile
    self.remoteRoot = remoteRoot
    self.connectTimeout = connectTimeout
    self.progressTimeout = progressTimeout
    self.keepAliveSeconds = keepAliveSeconds
    self.windowBytes = windowBytes
    self.handshakesAtOnce = handshakesAtOnce
    self.listingLimit = listingLimit
  }

  /// For people: `sftp://user@host:22/root`.
  package var address: String {
    let path = remoteRoot.hasPrefix("/") ? remoteRoot : "/~/" + remoteRoot
    let name = host.contains(":") ? "[\(host)]" : host
    return displayText("sftp://\(user)@\(name):\(port)\(path)")
  }
}

/// Opens an authenticated connection, blocking the calling thread, which is never one of the cooperative pool's.
///
/// Returns or throws within `connectTimeout`, and at once when the interrupter fires.
package typealias SSHConnector = @Sendable (SFTPSettings, Interrupter) throws(TransportError) -> any SSHConnection
