/// How long the way to a destination and back may take.
public enum RoundTrip {
  /// Beyond it the window of a connection bounds what it carries, in nanoseconds: 2 MiB in 5 ms are 400 MB/s, which is about what one core encrypts.
  public static let long: UInt64 = 5_000_000
}
