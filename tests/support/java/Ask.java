import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;

/** Asks a GRAPE server as a Java program does. Prints a line for each answer: name, status, body. */
public class Ask {
    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        for (HttpClient.Version version : HttpClient.Version.values()) {
            HttpClient client = HttpClient.newBuilder().version(version).build();
            show(version + " ready", client.send(get(url + "/readyz"), text()));
            show(version + " search", client.send(post(url, "{\"query\": \"rot\", \"k\": 1}"), text()));
            show(version + " words", client.send(post(url, "{\"query\": \"ギター 🎸\"}"), text()));
            show(version + " broken", client.send(post(url, "{"), text()));
            show(version + " picture", client.send(get(url + "/images/red.png?size=32"), text()));
            List<CompletableFuture<HttpResponse<String>>> many = IntStream.range(0, 20)
                .mapToObj(n -> client.sendAsync(post(url, "{\"query\": \"q" + n + "\"}"), text()))
                .toList();
            for (int n = 0; n < many.size(); n++) {
                show(version + " many " + n, many.get(n).get());
            }
        }
    }

    private static HttpRequest get(String url) {
        return HttpRequest.newBuilder(URI.create(url)).build();
    }

    private static HttpRequest post(String url, String body) {
        return HttpRequest.newBuilder(URI.create(url + "/search"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body, StandardCharsets.UTF_8))
            .build();
    }

    private static HttpResponse.BodyHandler<String> text() {
        return HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8);
    }

    private static void show(String name, HttpResponse<String> answer) {
        String start = answer.body().length() > 60 ? answer.body().substring(0, 60) : answer.body();
        String line = name + "\t" + answer.statusCode() + "\t" + start.replaceAll("\\p{Cntrl}", " ");
        System.out.write((line + "\n").getBytes(StandardCharsets.UTF_8), 0,
            (line + "\n").getBytes(StandardCharsets.UTF_8).length);
        System.out.flush();
    }
}
