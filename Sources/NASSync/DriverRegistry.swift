import Configuration
import SyncModel
import Transport
import TransportSFTP

/// Makes the drivers that the configuration names.
struct DriverRegistry: Sendable {
  /// What an embedder gives: a driver of its own for an instrument, or nil for the built-in one.
  typealias Custom = @Sendable (EquipmentProfile) -> (any TransportDriver)?

  let custom: Custom?
  let clock: any SyncClock

  /// The route of an instrument's runs.
  func route(for profile: EquipmentProfile) -> RunnerEnvironment.Route {
    switch profile.transport {
    case .sftp(let destination):
      let driver = custom?(profile) ?? Self.sftpDriver(destination)
      return RunnerEnvironment.Route(
        profile: profile, pool: SessionPool(driver: driver, limit: destination.connections, clock: clock),
        root: RemotePath(root: destination.remoteRoot),
        connections: destination.connections)
    }
  }

  private static func sftpDriver(_ destination: SFTPDestination) -> any TransportDriver {
    SFTPDriver(
      settings: SFTPSettings(
        host: destination.host, port: UInt16(clamping: destination.port), user: destination.user, keyFile: destination.keyFile,
        useAgent: destination.agent, knownHostsFile: destination.knownHosts, remoteRoot: destination.remoteRoot,
        connectTimeout: .seconds(destination.connectTimeout), progressTimeout: .seconds(destination.progressTimeout),
        keepAliveSeconds: UInt32(clamping: Int(destination.keepalive.rounded(.up)))))
  }
}
