interface StreamsInterface {
  RequestResponse: read(void)(undefined), write(undefined)(void)
}

service Streams {
  inputPort In {
    location: "local"
    interfaces: StreamsInterface
  }

  foreign java {
    class: "Streams"
  }
}
