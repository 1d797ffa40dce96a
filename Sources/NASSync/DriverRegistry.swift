import Configuration
import Foundation
import SyncModel
import Transport
import TransportHTTP
import TransportSFTP

/// Makes the drivers that the configuration names.
struct DriverRegistry: Sendable {
  /// What an embedder gives: a driver of its own for an instrument, or nil for the built-in one.
  typealias Custom = @Sendable (EquipmentProfile) -> (any TransportDriver)?

  let custom: Custom?
  let metadataFolder: String
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
    case .webdav(let destination):
      let settings = webdavSettings(destination)
      let driver = custom?(profile) ?? WebDAVDriver(settings: settings)
      // A session carries several connections; two of them keep two processors busy with TLS.
      return RunnerEnvironment.Route(
        profile: profile, pool: SessionPool(driver: driver, limit: min(2, destination.connections), clock: clock),
        root: RemotePath(root: settings.root), connections: destination.connections)
    case .s3(let destination):
      let settings = Self.s3Settings(destination)
      let driver = custom?(profile) ?? S3Driver(settings: settings)
      return RunnerEnvironment.Route(
        profile: profile, pool: SessionPool(driver: driver, limit: min(2, destination.connections), clock: clock),
        root: RemotePath(root: settings.root), connections: destination.connections)
    }
  }

  /// Half the connections: there are two sessions.
  private static func httpSettings(
    _ server: some WebServerSettings, user: String?,
    credentials: @escaping @Sendable () throws(SyncFailure) -> HTTPCredentials = { () throws(SyncFailure) in .none }
  ) -> HTTPSettings {
    // `validate()` refuses an address that is none before anything is opened; this one reaches nobody.
    let address = server.address
    let origin = HTTPOrigin(
      scheme: address?.isEncrypted == false ? .http : .https, host: address?.host ?? "invalid.invalid", port: address?.port)
    return HTTPSettings(
      origin: origin, user: user, caFile: server.caFile, pin: server.pin, allowsPlainHTTP: server.insecure,
      connections: (server.connections + 1) / 2, connectTimeout: .seconds(server.connectTimeout),
      progressTimeout: .seconds(server.progressTimeout), credentials: credentials)
  }

  private static func s3Settings(_ destination: S3Destination) -> S3Settings {
    let http = httpSettings(destination, user: destination.accessKeyID)
    let addressing = destination.addressing.map { $0 == .path ? S3Settings.Addressing.path : .virtual }
    return S3Settings(
      http: http, bucket: destination.bucket, prefix: destination.folder, region: destination.region, addressing: addressing,
      abortsUploadsAfter: destination.abortUploadsAfter
    ) { () throws(SyncFailure) in
      S3Credentials(
        accessKeyID: destination.accessKeyID,
        secretAccessKey: try resolve(destination.secretAccessKey, "secret_access_key", for: destination.endpoint),
        sessionToken: try destination.sessionToken.map { (reference) throws(SyncFailure) in
          try resolve(reference, "session_token", for: destination.endpoint)
        })
    }
  }

  /// A secret from where it is kept.
  /// - Parameter what: The profile's key.
  private static func resolve(_ reference: SecretReference?, _ what: String, for place: String) throws(SyncFailure) -> String {
    guard let reference else {
      throw SyncFailure(.misconfigured, "there is no \(what) for \(displayText(place))", hint: "Name its place in the equipment profile.")
    }
    do throws(SecretReference.Failure) {
      return try reference.resolve(environment: ProcessInfo.processInfo.environment)
    } catch {
      throw SyncFailure(.misconfigured, displayText("\(error)"), hint: "The \(what) of the equipment profile's transport is kept there.")
    }
  }

  private func webdavSettings(_ destination: WebDAVDestination) -> WebDAVSettings {
    let metadata: RelativePath
    // The configuration's check has found it to be one name.
    do { metadata = try RelativePath(metadataFolder) } catch { metadata = .defaultMetadataFolder }
    let http = Self.httpSettings(destination, user: destination.user) { () throws(SyncFailure) in try Self.credentials(destination) }
    return WebDAVSettings(http: http, root: destination.address?.path ?? "", metadataFolder: metadata)
  }

  private static func credentials(_ destination: WebDAVDestination) throws(SyncFailure) -> HTTPCredentials {
    func resolve(_ reference: SecretReference?, _ what: String) throws(SyncFailure) -> String {
      try Self.resolve(reference, what, for: destination.url)
    }
    switch destination.login {
    case .none: return .none
    case .basic: return .basic(user: destination.user ?? "", password: try resolve(destination.password, "password"))
    case .digest: return .digest(user: destination.user ?? "", password: try resolve(destination.password, "password"))
    case .bearer: return .bearer(token: try resolve(destination.token, "token"))
    }
  }

  private static func sftpDriver(_ destination: SFTPDestination) -> any TransportDriver {
    let connector =
      switch destination.ssh {
      case .builtin: BuiltinConnection.connector()
      case .openssh: OpenSSHConnection.connector(configurationFile: destination.sshConfig)
      }
    return SFTPDriver(
      settings: SFTPSettings(
        host: destination.host, port: UInt16(clamping: destination.port), user: destination.user, keyFile: destination.keyFile,
        useAgent: destination.agent, knownHostsFile: destination.knownHosts, remoteRoot: destination.remoteRoot,
        connectTimeout: .seconds(destination.connectTimeout), progressTimeout: .seconds(destination.progressTimeout),
        keepAliveSeconds: UInt32(clamping: Int(destination.keepalive.rounded(.up)))), connector: connector)
  }
}
