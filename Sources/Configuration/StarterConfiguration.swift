/// The texts that `nassync init` writes: every setting with its meaning, and its default where it has one.
public enum StarterConfiguration {
  /// One file.
  public struct File: Hashable, Sendable {
    /// Relative to the folder that is initialised.
    public let path: String
    /// UTF-8 text.
    public let text: String
  }

  /// `nassync.yaml` and one instrument, a pair that loads as it is.
  public static let files = [
    File(path: "nassync.yaml", text: service),
    File(path: "equipment/EXAMPLE_01.yaml", text: equipment),
  ]

  private static let service = """
    # NASSync: the service. Relative paths are seen from this file, `~/` is the home folder.
    # Check every change with `nassync check`. No password or token belongs in this file.

    # The queue, its lock and the host keys that are trusted live here. On a local disk, never on a network share.
    state_dir: ./state

    # One file for each instrument.
    equipment_dir: ./equipment

    # The folder at the top of each run that holds creation.json, checksums.sha256 and receipt.json.
    metadata_dir: .exlab-wizard

    # How many runs are sent at the same time, 1 to 64.
    workers: 4

    # Limit for all instruments together in Mbit/s (millions of bits a second). Without the line there is none.
    # upload_mbps: 400

    # The time zone of the instruments' timetables. Without the line it is this machine's own.
    # time_zone: Europe/Vienna

    # How long to wait after the first, second … failed try (s, m, h, d). After the last one the run is FAILED.
    retry:
      backoff: [30s, 2m, 8m, 30m, 2h]

    verify:
      method: auto          # auto: hashed on the NAS where it can, else read back | server | readback
      audit_interval: 24h   # published runs are verified again this often
      # How fast audits read files back where the NAS cannot hash them itself, in Mbit/s, and how long they may take within a day
      # (within audit_interval where that is shorter). Without the lines there is no limit.
      # audit_download_mbps: 200
      # audit_time: 4h

    # Deleting local copies. Off unless you say so; even then only what has been proven, twice, and not today.
    # `nassync cleanup --dry-run` shows what would go and what speaks against it.
    cleanup:
      enabled: false        # the service's own deleting; `nassync cleanup RUN` works without it
      min_verify_passes: 2  # verifications of the NAS copy at different times
      min_age_hours: 24     # since the one that completed them
      retain_metadata: true # keep the metadata folder of a cleaned run

    # What the Pre-Sync Gate searches for leftover placeholders such as <SAMPLE_ID> or {{ sample }}.
    gate:
      content_scan_max_mib: 5
      # content_scan_extensions: [.txt, .md, .json, .yaml, .yml, .toml, .ini, .cfg, .conf]
      # A program of the lab's own: it gets the run as JSON on its standard input and answers with findings as JSON.
      # validators:
      #   - command: [./check-run, --strict]
      #     timeout: 60s

    # Services that take files by presigned URLs, for `nassync asset add FILE… --type T`.
    # asset_services:
    #   lab:
    #     url: https://assets.lab.example/api
    #     token: file:assets-token   # mode 0600; or env:NAME, credential:NAME. Never the token itself
    #     # auth: none               # in place of the token
    #     # ca_file: assets-ca.pem   # the service's own authority, in place of the system's
    #     # pin: sha256//…           # its public key, in addition
    #     # stores: { hosts: [objects.lab.example], ca_file: store-ca.pem }   # where its URLs may lead

    """

  private static let equipment = """
    # One instrument. Copy this file for each one; every file in this folder that ends in .yaml or .yml is read.

    # Capital letters, digits and `_`; also the name of the folder below local_root.
    id: EXAMPLE_01
    label: Example instrument

    # Runs lie in <local_root>/<id>/<project>/Runs/Run_<DATE>.
    local_root: /data/lab

    # How a finished run is known:
    #   sentinel  a file of this name appears in it          { signal: sentinel, file: acquisition_complete.flag }
    #   manifest  its list of files is there and holds       { signal: manifest, file: checksums.sha256 }
    #   quiet     nothing has changed in it for so long      { signal: quiet, after: 10m }
    #   manual    a person or program runs `nassync enqueue`  { signal: manual }
    completeness: { signal: manual }

    # Not sent, listed in the receipt, never deleted.
    exclude: ["*.tmp", Thumbs.db, .DS_Store]

    transport:
      type: sftp
      host: nas01.lab.example
      port: 22
      user: labuser
      # Made with `ssh-keygen -t ed25519`, mode 0600; or `agent: true` for the keys of the SSH agent.
      key_file: ~/.ssh/id_ed25519
      # Only host keys in this file are trusted. Without the line it is known_hosts in state_dir.
      known_hosts: ~/.ssh/known_hosts
      # The folder as SFTP shows it.
      remote_root: /srv/lab
      connections: 4
      # ssh: builtin          # or openssh: the system's ssh program, with its configuration, agent, ProxyJump, hardware keys
      # connect_timeout: 15s  # to connect and log in
      # timeout: 60s          # without any progress
      # keepalive: 15s
      # Or over WebDAV, to a NAS or server that speaks HTTPS (these in place of the lines above):
      #   | type: webdav
      #   | url: https://nas01.lab.example/dav/lab   # the folder; it must exist
      #   | user: labuser
      #   | password: file:nas-password   # mode 0600; or env:NAME, credential:NAME. Never the password itself
      #   | auth: basic                   # basic | digest | bearer (with `token` in place of `password`) | none
      #   | ca_file: nas-ca.pem           # the NAS's own authority, in place of the system's
      #   | pin: sha256//…                # its public key, in addition
      #   | connections: 4
      # Or to an object store that speaks S3:
      #   | type: s3
      #   | endpoint: https://s3.lab.example       # without the bucket
      #   | bucket: lab                            # must exist
      #   | prefix: confocal                       # a folder in it
      #   | region: us-east-1
      #   | addressing: path                       # path | virtual (the bucket in the host's name)
      #   | access_key_id: AKIAEXAMPLE
      #   | secret_access_key: file:s3-secret      # mode 0600; or env:NAME, credential:NAME. Never the secret itself
      #   | abort_uploads_after: 7d                # ends interrupted uploads below the prefix that are older
      #   | ca_file, pin, connections and time limits as for WebDAV

    bandwidth:
      # Mbit/s outside the windows below; without the line there is no limit, 0 sends in the windows only.
      upload_mbps: 50
      # Windows with a rate of their own: 0 pauses, `unlimited` lifts the limit. One that ends before it starts ends on the next day;
      # its days are those on which it starts.
      schedule:
        - { days: [mon, tue, wed, thu, fri], from: "08:00", to: "18:00", upload_mbps: 20 }

    """
}
