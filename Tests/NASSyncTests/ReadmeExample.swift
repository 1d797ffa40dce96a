import Foundation
import NASSync

/// Sends one run and returns once it is proven on the NAS, or it is clear that it needs a person.
func send(_ run: String, configurationFile: String) async throws -> RunStatus {
  let configuration = try ServiceConfiguration.load(
    from: configurationFile, environment: ProcessInfo.processInfo.environment, currentDirectory: FileManager.default.currentDirectoryPath)
  let client = NASSyncClient(configuration: configuration)
  let events = client.events
  do {
    try await client.start()
    let handle = try await client.enqueue(run)
    for finding in handle.blockingFindings { print("\(finding.path ?? "the run"): \(finding.detail). \(finding.hint)") }
    // A run that the gate blocked, or that was proven before, has nothing to wait for.
    if handle.jobState?.isActive == true {
      watching: for await event in events {
        switch event {
        case .progress(let progress) where progress.jobID == handle.jobID:
          print("\(progress.bytesSent) of \(progress.bytesTotal) bytes")
        case .stateChanged(let jobID, _, _, let state) where jobID == handle.jobID && (state == .verified || state == .failed):
          break watching
        default:
          continue
        }
      }
    }
    let status = try await client.status(of: run)
    await client.close()
    return status
  } catch {
    await client.close()
    throw error
  }
}
