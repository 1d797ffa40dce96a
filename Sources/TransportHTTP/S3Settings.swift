import Digests
import SyncModel

/// How one bucket of an S3 store is reached.
package struct S3Settings: Sendable {
  /// Where the bucket's name stands in an address.
  package enum Addressing: String, Hashable, Sendable {
    /// `https://host/bucket/key`.
    case path
    /// `https://bucket.host/key`.
    case virtual
  }

  /// The endpoint, without the bucket. Its credentials are not used: `credentials` below is.
  package var http: HTTPSettings
  package var bucket: String
  /// The folder below which everything goes, without `/` at its ends; empty for the whole bucket.
  package var prefix: String
  package var region: String
  package var addressing: Addressing
  /// Called on the client's thread when it opens; may block on a small file.
  package var credentials: @Sendable () throws(SyncFailure) -> S3Credentials
  /// Uploads below the prefix that were begun longer ago are ended, seconds; nil never.
  package var abortsUploadsAfter: Double?
  /// A folder with more entries is taken for a store that lists without end.
  package var listingLimit: Int
  /// A tree with more objects is not removed: it is taken for a store that lists without end.
  package var removalLimit = 5_000_000
  /// Memory for the parts of large files.
  package var buffers: S3Buffers
  /// A file that is larger is copied part by part; 5 GiB is S3's limit for one copy.
  package var copyLimit: UInt64
  /// The smallest part that files are sent in, bytes. S3 takes no less than 5 MiB.
  package var partSize: UInt64
  /// The time that requests are signed with.
  package var clock: any SyncClock

  /// - Parameter addressing: Nil takes what suits the host.
  package init(
    http: HTTPSettings, bucket: String, prefix: String = "", region: String = "us-east-1", addressing: Addressing? = nil,
    abortsUploadsAfter: Double? = 7 * 86_400, listingLimit: Int = 300_000, buffers: S3Buffers = .shared, copyLimit: UInt64 = 5 << 30,
    partSize: UInt64 = 8 << 20, clock: any SyncClock = SystemClock(),
    credentials: @escaping @Sendable () throws(SyncFailure) -> S3Credentials
  ) {
    self.http = http
    self.bucket = bucket
    self.prefix = prefix.split(separator: "/").joined(separator: "/")
    self.region = region
    self.addressing = addressing ?? Self.addressing(for: http.origin.host)
    self.abortsUploadsAfter = abortsUploadsAfter
    self.listingLimit = listingLimit
    self.buffers = buffers
    self.copyLimit = copyLimit
    self.partSize = partSize
    self.clock = clock
    self.credentials = credentials
  }

  /// AWS wants the bucket in the host's name; most stores of one's own know no such names.
  package static func addressing(for host: String) -> Addressing {
    host == "amazonaws.com" || host.hasSuffix(".amazonaws.com") ? .virtual : .path
  }

  /// What `RemotePath` takes as its root.
  package var root: String { prefix.isEmpty ? "" : "/" + prefix }

  /// For people: `s3://host/bucket/prefix`, without secrets.
  package var address: String {
    let origin = http.origin
    let usual: UInt16 = origin.scheme == .https ? 443 : 80
    let name = origin.host.contains(":") ? "[\(origin.host)]" : origin.host
    return displayText("s3://\(name)\(origin.port == usual ? "" : ":\(origin.port)")/\(bucket)\(root)")
  }

  /// The endpoint as requests reach it, with the signature as its log-in.
  var client: HTTPSettings {
    var settings = http
    if addressing == .virtual {
      settings.origin = HTTPOrigin(scheme: http.origin.scheme, host: "\(bucket).\(http.origin.host)", port: http.origin.port)
    }
    let (credentials, region, host, clock) = (credentials, region, settings.origin.authority, clock)
    settings.credentials = { () throws(SyncFailure) in
      let signer = S3Signer(credentials: try credentials(), region: region, host: host)
      return .signed { signer.lines(for: $0, at: Int64(clock.wallSeconds)) }
    }
    return settings
  }
}
