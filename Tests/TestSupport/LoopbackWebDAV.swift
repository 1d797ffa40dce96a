import Foundation
import Glibc

/// A real, private WebDAV server on a free port of 127.0.0.1, over plain HTTP or TLS, with its own account and certificate.
///
///     try await LoopbackWebDAV.with(.nginx, tls: true) { server in … }
///
/// Everything is stopped by process id and removed when the body returns or throws.
public actor LoopbackWebDAV: StoppableServer {
  /// The makes, which differ in what they do where the standard leaves room, and elsewhere.
  public enum Make: String, Sendable, CaseIterable { case apache, nginx, rclone }

  /// How it wants its users to log in; Digest is Apache's alone, bearer tokens nginx's.
  public enum Login: String, Sendable { case basic, digest, bearer }

  /// As asked for.
  public nonisolated let make: Make
  /// As asked for.
  public nonisolated let login: Login
  /// Whether it speaks TLS only.
  public nonisolated let tls: Bool
  /// The server's own folder: configuration, log, certificates.
  public nonisolated let folder: TemporaryFolder
  /// Where it listens.
  public nonisolated let host = "127.0.0.1"
  /// The port it listens on.
  public nonisolated let port: Int
  /// Who may log in.
  public nonisolated let user = "labuser"
  /// With a character that a careless header or URL would trip over.
  public nonisolated let password = "p4ss:w@rd ü"
  /// What a bearer log-in wants.
  public nonisolated let token = "lab-T0ken.with~all+of/its==signs"
  /// A file with the token, mode 0600.
  public nonisolated var tokenFile: String { "\(folder.path)/token" }
  /// The folder on this machine's disk behind `rootPath`. Exists, empty.
  public nonisolated let rootFolder: String
  /// Where the folder is on the server.
  public nonisolated let rootPath = "/dav/lab"
  /// PEM file of the authority that signed the server's certificate.
  public nonisolated var caFile: String { "\(folder.path)/ca.pem" }
  /// A file with the password, mode 0600.
  public nonisolated var passwordFile: String { "\(folder.path)/password" }
  /// The root's address.
  public nonisolated var url: String { "\(tls ? "https" : "http")://\(host):\(port)\(rootPath)" }

  private var process: ServerProcess?

  /// Starts a server, runs the body, stops the server, removes its folders.
  /// - Parameter configuration: Lines put into the part of the configuration that is about the root.
  public static func with<Result>(
    _ make: Make, tls: Bool = false, login: Login = .basic, configuration: [String] = [], isolation: isolated (any Actor)? = #isolation,
    _ body: (LoopbackWebDAV) async throws -> Result
  ) async throws -> Result {
    try await TemporaryFolder.with { folder in
      try await started(make, tls, login, configuration, in: folder).using(body)
    }
  }

  private static func started(
    _ make: Make, _ tls: Bool, _ login: Login, _ configuration: [String], in folder: TemporaryFolder
  ) async throws -> LoopbackWebDAV {
    let server = LoopbackWebDAV(make, tls, login, in: folder, port: try freePort())
    try await server.prepare(configuration)
    // Another test may take the port between our looking and the server's binding.
    for attempt in 1... {
      do {
        try await server.start()
        return server
      } catch {
        if attempt == 3 { throw error }
      }
    }
    return server
  }

  private init(_ make: Make, _ tls: Bool, _ login: Login, in folder: TemporaryFolder, port: Int) {
    self.make = make
    self.tls = tls
    self.login = login
    self.folder = folder
    self.port = port
    rootFolder = "\(folder.path)/srv/dav/lab"
  }

  // MARK: Setting up

  private func prepare(_ configuration: [String]) async throws {
    for path in [rootFolder, "\(folder.path)/run", "\(folder.path)/tmp"] {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    // Apache's own account has to come in.
    for path in [folder.path, "\(folder.path)/srv", "\(folder.path)/srv/dav", rootFolder, "\(folder.path)/run", "\(folder.path)/tmp"] {
      guard chmod(path, 0o777) == 0 else { throw TemporaryFolder.Failure("chmod \(path)") }
    }
    try folder.write(password + "\n", to: "password", mode: 0o600)
    try folder.write(token + "\n", to: "token", mode: 0o600)
    let digest = try await openssl(["dgst", "-sha1", "-binary"], input: Array(password.utf8))
    try folder.write("\(user):{SHA}\(Data(digest).base64EncodedString())\n", to: "users", mode: 0o644)
    let realm = try await openssl(["dgst", "-md5", "-binary"], input: Array("\(user):lab:\(password)".utf8))
    try folder.write("\(user):lab:\(realm.map { String(format: "%02x", $0) }.joined())\n", to: "digest-users", mode: 0o644)
    if tls { try await makeCertificates() }
    switch make {
    case .apache: try folder.write(apache(configuration), to: "httpd.conf")
    case .nginx: try folder.write(nginx(configuration), to: "nginx.conf")
    case .rclone: break
    }
  }

  private func openssl(_ arguments: [String], input: [UInt8] = []) async throws -> [UInt8] {
    let result = try await runProcess(["openssl"] + arguments, input: input, directory: folder.path)
    guard result.status == 0 else { throw TemporaryFolder.Failure("openssl \(arguments): \(result.errorText)") }
    return result.stdout
  }

  private func makeCertificates() async throws {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _ = try await openssl(["req", "-x509", "-days", "2", "-subj", "/CN=Lab authority", "-keyout", "ca.key", "-out", "ca.pem"] + key)
    _ = try await openssl(["req", "-subj", "/CN=nas", "-keyout", "server.key", "-out", "server.csr"] + key)
    try folder.write("subjectAltName=IP:127.0.0.1\n", to: "extensions")
    _ = try await openssl([
      "x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem",
      "-extfile", "extensions",
    ])
    for name in ["server.key", "server.pem", "ca.pem"] {
      guard chmod("\(folder.path)/\(name)", 0o644) == 0 else { throw TemporaryFolder.Failure("chmod \(name)") }
    }
  }

  /// What the server's public key is, as `pin` takes it.
  public func pin() async throws -> String {
    let pem = try await openssl(["x509", "-in", "server.pem", "-pubkey", "-noout"])
    let der = try await openssl(["pkey", "-pubin", "-outform", "der"], input: pem)
    return "sha256//\(Data(try await openssl(["dgst", "-sha256", "-binary"], input: der)).base64EncodedString())"
  }

  private func apache(_ extra: [String]) -> String {
    let modules = [
      "mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "auth_digest", "ssl", "dav", "dav_fs",
    ]
    let base = folder.path
    var lines = [
      "ServerRoot \(base)", "ServerName localhost", "PidFile \(base)/run/pid", "DefaultRuntimeDir \(base)/run",
      "Mutex file:\(base)/run default",
      "ErrorLog \(base)/error.log", "Listen 127.0.0.1:\(port)",
    ]
    lines += modules.map { "LoadModule \($0)_module /usr/lib/apache2/modules/mod_\($0).so" }
    lines += [
      "StartServers 1", "ServerLimit 1", "ThreadsPerChild 64", "MaxRequestWorkers 64", "MaxKeepAliveRequests 0", "KeepAliveTimeout 20",
      "DavLockDB \(base)/run/locks", "DocumentRoot \(base)/srv", "AllowEncodedSlashes NoDecode", "LimitXMLRequestBody 0",
    ]
    if tls { lines += ["SSLEngine on", "SSLCertificateFile \(base)/server.pem", "SSLCertificateKeyFile \(base)/server.key"] }
    lines += ["<Directory \(base)/srv>", "Dav On", "DavDepthInfinity On", "AuthName lab", "Require valid-user"]
    switch login {
    case .basic: lines += ["AuthType Basic", "AuthUserFile \(base)/users"]
    case .digest: lines += ["AuthType Digest", "AuthUserFile \(base)/digest-users"]
    case .bearer: break
    }
    return (lines + extra + ["</Directory>", ""]).joined(separator: "\n")
  }

  private func nginx(_ extra: [String]) -> String {
    let base = folder.path
    let listen =
      tls
      ? "listen 127.0.0.1:\(port) ssl; ssl_certificate \(base)/server.pem; ssl_certificate_key \(base)/server.key;"
      : "listen 127.0.0.1:\(port);"
    let guarding =
      login == .bearer
      ? "if ($http_authorization != \"Bearer \(token)\") { return 401; } if (-f \(base)/token-ended) { return 401; }"
      : "auth_basic lab; auth_basic_user_file \(base)/users;"
    return """
      load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
      daemon off; \(geteuid() == 0 ? "user root;" : "") worker_processes 1; pid \(base)/run/pid; error_log \(base)/error.log;
      events { worker_connections 512; }
      http { access_log off; client_body_temp_path \(base)/tmp; proxy_temp_path \(base)/tmp/p; fastcgi_temp_path \(base)/tmp/f;
       uwsgi_temp_path \(base)/tmp/u; scgi_temp_path \(base)/tmp/s;
       dav_ext_lock_zone zone=dl:1m; client_max_body_size 0; keepalive_requests 1000000;
       server { \(listen)
       location / { root \(base)/srv; dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK; dav_ext_lock zone=dl;
        create_full_put_path off; \(guarding)
        \(extra.joined(separator: "\n"))
       } } }
      """
  }

  // MARK: Starting and stopping

  private var command: [String] {
    switch make {
    case .apache:
      let apache = ["/usr/sbin/apache2", "-f", "\(folder.path)/httpd.conf", "-DFOREGROUND"]
      guard geteuid() == 0 else { return apache }
      // Apache refuses to work as root; this account may still touch what the tests put there as root.
      let abilities = "+dac_override,+fowner"
      return [
        "setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", "--inh-caps=\(abilities)", "--ambient-caps=\(abilities)",
      ]
        + apache
    case .nginx: return ["/usr/sbin/nginx", "-c", "\(folder.path)/nginx.conf", "-e", "\(folder.path)/error.log"]
    case .rclone:
      var rclone = [
        "rclone", "serve", "webdav", "\(folder.path)/srv", "--addr", "\(host):\(port)", "--config", "/dev/null", "--dir-cache-time", "0s",
      ]
      if tls { rclone += ["--cert", "\(folder.path)/server.pem", "--key", "\(folder.path)/server.key"] }
      return rclone
    }
  }

  /// Starts the server (again) on the same port; returns once it listens.
  public func start() async throws {
    guard process == nil else { return }
    let environment = [
      "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": folder.path, "RCLONE_USER": user, "RCLONE_PASS": password, "LANG": "C.UTF-8",
    ]
    process = try await ServerProcess.start(
      make.rawValue, command, environment: environment, folder: folder,
      streams: ChildProcess.Streams(output: "\(folder.path)/out", error: "\(folder.path)/err"),
      until: { [port] in accepts(port) }, log: { [self] in log })
  }

  /// Stops the server, by process id. Idempotent.
  public func stop() async throws {
    guard let process else { return }
    self.process = nil
    try await process.stop()
  }

  /// Freezes the server: connections stay open and nothing answers. Returns once every thread of it stands still.
  public func pause() async throws { try await process?.pause() }

  /// From the next request on the token is accepted no more, or again.
  public nonisolated func setTokenEnded(_ ended: Bool) throws {
    guard ended else { return try FileManager.default.removeItem(atPath: "\(folder.path)/token-ended") }
    try folder.write("", to: "token-ended", mode: 0o644)
  }

  /// Thaws what `pause` froze.
  public func resume() { process?.resume() }

  /// What the server has said.
  public nonisolated var log: String {
    ["out", "err", "error.log"].map { (try? String(contentsOfFile: "\(folder.path)/\($0)", encoding: .utf8)) ?? "" }  // nothing said yet
      .joined(separator: "\n")
  }
}
