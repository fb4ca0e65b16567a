import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import jolie.js.JsUtils;
import jolie.runtime.JavaService;
import jolie.runtime.Value;
import jolie.runtime.embedding.RequestResponse;
import jolie.runtime.typing.Type;

/** Standard input and output as JSON: the distribution's own services for that are in no registry. */
public class Streams extends JavaService {
  public Value read() {
    Value value = Value.create();
    try {
      JsUtils.parseJsonIntoValue(new InputStreamReader(System.in, StandardCharsets.UTF_8), value, false);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    return value;
  }

  @RequestResponse
  public void write(Value value) {
    StringBuilder text = new StringBuilder();
    try {
      JsUtils.valueToJsonString(value, false, Type.UNDEFINED, text);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    System.out.println(text);
  }
}
