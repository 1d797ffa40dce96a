import Configuration
import Intake
import SyncModel
import Transport

/// Where a recovery looks for runs: in the usual layout, here and on the NAS.
struct RecoverySearch {
  struct Candidate {
    let location: RunLocation
    /// A person named it: then also another workstation's copy is taken for this one's.
    let isNamed: Bool
  }

  private(set) var candidates: [[UInt8]: Candidate] = [:]
  private(set) var obstacles: [RecoverReport.Obstacle] = []
  private(set) var leftovers: [String] = []
  private let configuration: ServiceConfiguration
  private let locator: RunLocator

  init(configuration: ServiceConfiguration) {
    self.configuration = configuration
    locator = RunLocator(equipments: configuration.equipment.map { EquipmentRoot(id: $0.id, localRoot: $0.localRoot) })
  }

  func roots(of equipment: String?) -> [EquipmentRoot] {
    configuration.equipment.filter { equipment == nil || $0.id == equipment }.map { EquipmentRoot(id: $0.id, localRoot: $0.localRoot) }
  }

  mutating func add(_ location: RunLocation, isNamed: Bool) {
    candidates[Array(location.root.utf8)] = Candidate(location: location, isNamed: isNamed)
  }

  /// What lies on this workstation.
  mutating func add(_ found: RunFinder.Found) {
    for run in found.candidates {
      do throws(RunLocationError) {
        add(try locator.locate(run.path, equipment: run.equipment, mayBeGone: true), isNamed: false)
      } catch {
        obstacles.append(
          RecoverReport.Obstacle(place: run.path, message: error.failure.message, hint: error.failure.hint, kind: error.failure.kind))
      }
    }
    obstacles += found.obstacles.map { RecoverReport.Obstacle(place: $0.path, message: $0.reason, hint: $0.hint, kind: nil) }
  }

  /// What lies on an instrument's NAS, below its own folder.
  /// - Parameter known: Names of the hidden folders of the jobs in the queue.
  mutating func addRemote(_ profile: EquipmentProfile, _ route: RunnerEnvironment.Route, known: Set<String>) async {
    do throws(TransportError) {
      let found = try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        try await Self.runs(of: profile.id, below: route.root, session: session)
      }
      for path in found.runs {
        guard let text = path.string else { continue }
        do throws(RunLocationError) {
          add(try locator.locate("\(profile.localRoot)/\(text)", equipment: profile.id, mayBeGone: true), isNamed: false)
        } catch { continue }  // a name that cannot be a run's here is none of this workstation's
      }
      leftovers += found.hidden.filter { !known.contains($0.name) }.map { "\(route.pool.driver.address): \(route.root.appending($0.path))" }
    } catch {
      obstacles.append(
        RecoverReport.Obstacle(
          place: route.pool.driver.address, message: error.failure.message, hint: "\(error.failure.hint) Then recover again.",
          kind: error.failure.kind))
    }
  }

  /// `<EQUIPMENT>/<project>/{Runs,TestRuns}/…`
  private static func runs(
    of equipment: String, below root: RemotePath, session: any TransportSession
  ) async throws(TransportError) -> (runs: [RelativePath], hidden: [(path: RelativePath, name: String)]) {
    var runs: [RelativePath] = []
    var hidden: [(path: RelativePath, name: String)] = []
    let own: RelativePath
    do { own = try RelativePath(equipment) } catch { return ([], []) }
    for project in try await folders(root.appending(own), session) {
      for group in try await folders(root.appending(own.appending(project)), session) where ["Runs", "TestRuns"].contains(group.string) {
        let place = own.appending(project).appending(group)
        for name in try await folders(root.appending(place), session) {
          guard name.bytes.starts(with: Array(".nassync-".utf8)) else {
            runs.append(place.appending(name))
            continue
          }
          hidden.append((place.appending(name), name.description))
        }
      }
    }
    return (runs, hidden)
  }

  private static func folders(_ path: RemotePath, _ session: any TransportSession) async throws(TransportError) -> [RelativePath] {
    do throws(TransportError) {
      return try await session.list(path).filter { $0.kind == .folder }.map(\.name).sorted()
    } catch {
      if case .notFound = error { return [] }
      throw error
    }
  }
}
