import JobQueue
import SyncModel
import TestSupport
import Testing

/// Storage of the upload tracker.
@Suite struct AssetTests {
  @Test func componentsAreRegisteredAllOrNone() async throws {
    try await QueueFixture.with { fixture in
      let queue = fixture.queue
      #expect(try await queue.hasAssets() == false)
      try await queue.registerComponents(asset: "A", type: "checkpoint", components: [("w", "/c/w", 10), ("o", "/c/o", nil)])
      #expect(try await queue.hasAssets())
      let rows = try await queue.components(ofAsset: "A")
      #expect(rows.map(\.name) == ["o", "w"] && rows.map(\.size) == [nil, 10] && rows.map(\.state) == ["pending", "pending"])
      #expect(rows.allSatisfy { $0.assetID == "A" && $0.assetType == "checkpoint" && $0.createdAt == 1_000_000 })
      // A trigger stands for whatever may go wrong at the second of three components.
      try fixture.foreign().execute(
        "CREATE TRIGGER t BEFORE INSERT ON asset_component WHEN new.name = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END")
      await expectFailure(.local) {
        try await queue.registerComponents(asset: "B", type: "x", components: [("a", "/a", 1), ("bad", "/b", 1), ("c", "/c", 1)])
      }
      #expect(try await queue.components(ofAsset: "B").isEmpty)
      #expect(try fixture.count("asset") == 1)
    }
  }

  @Test func aKnownComponentKeepsItsStateUnlessItDiffers() async throws {
    try await QueueFixture.with { fixture in
      let queue = fixture.queue
      try await queue.registerComponents(asset: "A", type: "t", components: [("a", "/a", 1), ("b", "/b", 1), ("c", "/c", nil)])
      for name in ["a", "b", "c"] { try await queue.setComponent(asset: "A", name: name, state: "completed", detail: nil) }
      try await queue.registerComponents(asset: "A", type: nil, components: [("a", "/a", 1), ("b", "/b2", 1), ("c", "/c", 5)])
      let rows = try await queue.components(ofAsset: "A")
      #expect(rows.map(\.state) == ["completed", "pending", "pending"])
      #expect(rows.map(\.localPath) == ["/a", "/b2", "/c"])
      #expect(rows.allSatisfy { $0.assetType == "t" }, "no type given keeps the known one")
      try await queue.registerComponents(asset: "B", type: nil, components: [("a", "/a", 1)])
      #expect(try await queue.components(ofAsset: "B").map(\.assetType) == ["unknown"])
    }
  }

  @Test func whatIsNotCompletedIsListedOldestAssetFirst() async throws {
    try await QueueFixture.with { fixture in
      let queue = fixture.queue
      try await queue.registerComponents(asset: "Z", type: "t", components: [("b", "/zb", 1), ("a", "/za", 1)])
      try await queue.registerComponents(asset: "A", type: "t", components: [("a", "/aa", 1)])
      #expect(try await queue.incompleteComponents().map(\.localPath) == ["/za", "/zb", "/aa"])
      #expect(try await queue.incompleteComponents(asset: "A").map(\.localPath) == ["/aa"])
      try await queue.setComponent(asset: "Z", name: "a", state: "completed", detail: nil)
      try await queue.setComponent(asset: "Z", name: "b", state: "uploading", detail: nil)
      try await queue.setComponent(asset: "A", name: "a", state: "failed", detail: "no route")
      #expect(try await queue.incompleteComponents().map(\.state) == ["uploading", "failed"])
      #expect(try await queue.incompleteComponents(asset: "nobody").isEmpty)
    }
  }

  @Test func anUnknownComponentOrStateIsAnError() async throws {
    try await QueueFixture.with { fixture in
      let queue = fixture.queue
      try await queue.registerComponents(asset: "A", type: "t", components: [("a", "/a", 1)])
      await expectFailure(.misconfigured, saying: "no component b") {
        try await queue.setComponent(asset: "A", name: "b", state: "completed", detail: nil)
      }
      await expectFailure(.misconfigured, saying: "asset B") {
        try await queue.setComponent(asset: "B", name: "a", state: "completed", detail: nil)
      }
      await expectFailure(.local) { try await queue.setComponent(asset: "A", name: "a", state: "done", detail: nil) }
      #expect(try await queue.components(ofAsset: "A").map(\.state) == ["pending"])
    }
  }

  @Test func theLatestPathIsThatOfTheAssetRegisteredLast() async throws {
    try await QueueFixture.with { fixture in
      let queue = fixture.queue
      #expect(try await queue.latestPath(assetType: "checkpoint") == nil)
      try await queue.registerComponents(asset: "z", type: "checkpoint", components: [("w", "/1/w", 1)])
      try await queue.registerComponents(asset: "a", type: "checkpoint", components: [("w", "/2/w", 1), ("o", "/2/o", 1)])
      try await queue.registerComponents(asset: "m", type: "snapshot", components: [("w", "/3/w", 1)])
      #expect(try await queue.latestPath(assetType: "checkpoint") == "/2/o")
      #expect(try await queue.latestPath(assetType: "snapshot") == "/3/w")
      #expect(try await queue.latestPath(assetType: "Snapshot") == nil)
    }
  }

  @Test func manyProducersLoseNothing() async throws {
    try await QueueFixture.with { fixture in
      let other = try await fixture.another()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<40 {
          let queue = number % 2 == 0 ? fixture.queue : other
          group.addTask {
            try await queue.registerComponents(
              asset: "asset\(number % 10)", type: "t", components: [("c\(number)", "/\(number)", 1), ("x", "/x", 1)])
          }
        }
        try await group.waitForAll()
      }
      await other.close()
      #expect(try fixture.count("asset") == 10)
      #expect(try fixture.count("asset_component") == 50)
    }
  }

  @Test func aRestartFindsWhatWasRegistered() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.queue.registerComponents(asset: "A", type: "t", components: [("a", "/a", 1)])
      await fixture.queue.close()
      await expectFailure(.local, saying: "closed") { _ = try await fixture.queue.hasAssets() }
      let queue = try await fixture.another()
      #expect(try await queue.incompleteComponents().map(\.name) == ["a"])
      await queue.close()
    }
  }
}
