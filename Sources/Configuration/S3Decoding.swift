import SyncModel

extension EquipmentDecoder {
  func s3(_ section: inout SettingsSection) -> S3Destination {
    var destination = S3Destination(
      endpoint: section.requiredText("endpoint", "the store's address, https://…,"),
      bucket: section.requiredText("bucket", "the bucket's name"),
      accessKeyID: section.requiredText("access_key_id", "the access key's id"), secretAccessKey: nil)
    destination.secretAccessKey = section.secret("secret_access_key", paths)
    destination.sessionToken = section.secret("session_token", paths)
    destination.prefix = section.text("prefix", "a folder in the bucket")
    destination.region = section.text("region", "the store's region") ?? destination.region
    if section.has("addressing") { destination.addressing = section.choice("addressing", default: S3Destination.Addressing.path) }
    destination.readServer(&section, paths)
    destination.abortUploadsAfter = section.duration(
      "abort_uploads_after", in: SettingLimits.uploadAge, default: destination.abortUploadsAfter)
    // What is missing altogether has been said, and so has a secret that stands in the file.
    let required: Set<String> = ["endpoint", "bucket", "access_key_id"]
    for problem in destination.problems where !required.contains(problem.key) || section.has(problem.key) {
      if problem.key == "secret_access_key", section.has(problem.key) { continue }
      section.fail(problem.key, problem.message, hint: problem.hint)
    }
    return destination
  }
}
