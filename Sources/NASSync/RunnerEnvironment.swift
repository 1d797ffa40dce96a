import Bandwidth
import Configuration
import Executors
import Gate
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

/// All that a job's steps need, the same for every job of a client.
struct RunnerEnvironment: Sendable {
  let queue: SyncQueue
  let clock: any SyncClock
  let events: EventHub
  let bandwidth: BandwidthScheduler
  let readers: ReaderThreads
  let gate: GateKeeper
  let policy: FailurePolicy
  let stop: StopFlag
  /// Name of this worker in the queue: host and process.
  let worker: String
  let verifyMethod: VerifySettings.Method
  let metadataFolder: String
  let sender: SenderIdentity
  /// Shared by all jobs of a client: what they want of a destination adds up.
  let space: SpaceLedger
  /// Awaited with the number of bytes after each piece that is read back from the NAS; nil reads as fast as it comes.
  var readBackPace: RemoteVerifier.Pace?

  /// One instrument with its open destination.
  struct Route: Sendable {
    let profile: EquipmentProfile
    let pool: SessionPool
    /// `remote_root` of the destination.
    let root: RemotePath
    let connections: Int
    var survey = DestinationSurvey()
    /// What the destination can hold as far as is known, for the gate's rules on names.
    var limits: DestinationLimits {
      var limits = survey.limits
      // What is so of the kind of destination needs no asking: a run is stopped before its first byte, and without a network.
      if let holdsSymlinks = pool.driver.holdsSymlinks { limits.holdsSymlinks = holdsSymlinks }
      limits.withheld = pool.driver.withheldNames
      return limits
    }
  }
}

/// Who sends, for the receipt.
struct SenderIdentity: Sendable, Hashable {
  let host: String
  let user: String
  let version: String
}

/// A failure on its way out of a job's steps, with what the policy must know beside it.
struct StepFailure: Error {
  let failure: SyncFailure
  /// The destination as a whole did not answer.
  var unreachable = false
  /// Nothing is wrong with the run or the destination: it waits for its turn, and the attempt does not count.
  var waitsForOthers = false
  /// Findings, where the gate stopped the run.
  var findings: [Finding] = []

  init(_ failure: SyncFailure, unreachable: Bool = false, findings: [Finding] = []) {
    self.failure = failure
    self.unreachable = unreachable
    self.findings = findings
  }

  init(_ error: TransportError) { self.init(error.failure) }
}
