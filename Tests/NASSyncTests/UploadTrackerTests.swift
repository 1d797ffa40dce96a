import Foundation
import NASSync
import TestSupport
import Testing

@Suite struct UploadTrackerTests {
  typealias Component = UploadTracker.Component

  private func with(_ body: @Sendable (UploadTracker, String) async throws -> Void) async throws {
    try await TemporaryFolder.with { folder in
      let tracker = try await UploadTracker(stateDirectory: folder.path)
      try await body(tracker, folder.path)
      await tracker.close()
    }
  }

  @Test func anAssetIsCompleteWhenEachComponentIs() async throws {
    try await with { tracker, _ in
      #expect(try await !tracker.hasRegisteredAssets())
      #expect(try await !tracker.allComponentsCompleted(asset: "a1"))
      try await tracker.registerComponents(
        asset: "a1", assetType: "checkpoint",
        components: [Component(name: "weights", localPath: "/c/1/weights", size: 12), Component(name: "index", localPath: "/c/1/index")])
      #expect(try await tracker.hasRegisteredAssets())
      let pending = try await tracker.incomplete()
      #expect(pending.map(\.component) == ["index", "weights"])
      #expect(pending.map(\.size) == [nil, 12] && pending.allSatisfy { $0.state == .pending && $0.assetType == "checkpoint" })
      #expect(pending.allSatisfy { $0.assetID == "a1" && abs($0.createdAt.timeIntervalSinceNow) < 60 })
      try await tracker.markUploading(asset: "a1", component: "weights")
      try await tracker.markCompleted(asset: "a1", component: "weights")
      try await tracker.markCompleted(asset: "a1", component: "weights")
      #expect(try await !tracker.allComponentsCompleted(asset: "a1"))
      try await tracker.markFailed(asset: "a1", component: "index", reason: "no network")
      #expect(try await tracker.incomplete().map(\.state) == [.failed])
      try await tracker.markCompleted(asset: "a1", component: "index")
      #expect(try await tracker.allComponentsCompleted(asset: "a1"))
      #expect(try await tracker.incomplete().isEmpty)
      #expect(try await tracker.components(asset: "a1").map(\.state) == [.completed, .completed])
    }
  }

  @Test func aBatchIsRegisteredWholeOrNotAtAll() async throws {
    try await with { tracker, _ in
      await #expect(throws: SyncFailure.self) {
        try await tracker.registerComponents(
          asset: "a", assetType: "snapshot", components: [Component(name: "x", localPath: "/1"), Component(name: "x", localPath: "/2")])
      }
      await #expect(throws: SyncFailure.self) { try await tracker.registerComponents(asset: "a", assetType: "snapshot", components: []) }
      await #expect(throws: SyncFailure.self) { try await tracker.markCompleted(asset: "a", component: "x") }
      #expect(try await !tracker.hasRegisteredAssets())
      // Two names that look alike and are not the same bytes.
      try await tracker.registerComponents(
        asset: "a", assetType: "snapshot",
        components: [Component(name: "é", localPath: "/1"), Component(name: "e\u{301}", localPath: "/2")])
      #expect(try await tracker.components(asset: "a").count == 2)
    }
  }

  @Test func oneComponentCanBeMarkedPending() async throws {
    try await with { tracker, _ in
      try await tracker.markPending(asset: "v", component: "plot", localPath: "/v/plot.png", size: 5)
      #expect(try await tracker.components(asset: "v").map(\.assetType) == ["unknown"])
      try await tracker.markPending(asset: "v", component: "movie", localPath: "/v/movie.mp4", assetType: "visualization")
      #expect(try await tracker.components(asset: "v").map(\.assetType) == ["visualization", "visualization"])
      try await tracker.markCompleted(asset: "v", component: "plot")
      // The same file again keeps its state; another one starts anew.
      try await tracker.markPending(asset: "v", component: "plot", localPath: "/v/plot.png", size: 5)
      #expect(try await tracker.components(asset: "v").first { $0.component == "plot" }?.state == .completed)
      try await tracker.markPending(asset: "v", component: "plot", localPath: "/v/plot.png", size: 6)
      #expect(try await tracker.components(asset: "v").first { $0.component == "plot" }?.state == .pending)
    }
  }

  @Test func theLatestPathIsThatOfTheAssetRegisteredLast() async throws {
    try await with { tracker, _ in
      #expect(try await tracker.latestPath(assetType: "checkpoint") == nil)
      for number in 1...3 {
        try await tracker.registerComponents(
          asset: "c\(number)", assetType: "checkpoint", components: [Component(name: "w", localPath: "/c/\(number)/w")])
      }
      try await tracker.registerComponents(
        asset: "s", assetType: "snapshot", components: [Component(name: "w", localPath: "/s/w")])
      #expect(try await tracker.latestPath(assetType: "checkpoint") == "/c/3/w")
      #expect(try await tracker.latestPath(assetType: "snapshot") == "/s/w")
      #expect(try await tracker.latestPath(assetType: "other") == nil)
    }
  }

  @Test func manyProducersLoseNothingAndARestartFindsWhatIsLeft() async throws {
    try await TemporaryFolder.with { folder in
      let trackers = [try await UploadTracker(stateDirectory: folder.path), try await UploadTracker(stateDirectory: folder.path)]
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<40 {
          group.addTask {
            let tracker = trackers[number % 2]
            let names = (0..<5).map { "part\($0)" }
            try await tracker.registerComponents(
              asset: "asset\(number)", assetType: "checkpoint",
              components: names.map { Component(name: $0, localPath: "/d/\(number)/\($0)", size: 1) })
            for name in names where number % 4 != 0 || name != "part3" {
              try await tracker.markCompleted(asset: "asset\(number)", component: name)
            }
          }
        }
        // Whoever looks meanwhile sees an asset with all of its components or none of it.
        group.addTask {
          for _ in 0..<50 {
            let seen = try await trackers[0].components(asset: "asset7").count
            #expect(seen == 0 || seen == 5)
          }
        }
        try await group.waitForAll()
      }
      // No close: a crash does not either.
      let again = try await UploadTracker(stateDirectory: folder.path)
      #expect(try await again.hasRegisteredAssets())
      let left = try await again.incomplete()
      #expect(Set(left.map(\.assetID)) == Set(stride(from: 0, to: 40, by: 4).map { "asset\($0)" }))
      #expect(left.allSatisfy { $0.component == "part3" })
      for number in 0..<40 { #expect(try await again.allComponentsCompleted(asset: "asset\(number)") == (number % 4 != 0)) }
      for tracker in trackers + [again] { await tracker.close() }
      await #expect(throws: SyncFailure.self) { try await again.incomplete() }
    }
  }

  /// The tracker and a client use one file.
  @Test func itLivesBesideTheQueue() async throws {
    try await LabFixture.with { lab in
      let tracker = try await UploadTracker(stateDirectory: lab.configuration.stateDirectory)
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await tracker.registerComponents(
        asset: "a", assetType: "run", components: [Component(name: "data", localPath: run + "/data.fcs")])
      try await lab.published(client, run)
      try await tracker.markCompleted(asset: "a", component: "data")
      #expect(try await tracker.allComponentsCompleted(asset: "a"))
      await client.close()
      await tracker.close()
    }
  }
}
