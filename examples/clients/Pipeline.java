// A pipeline with its own Kafka client: publishes, reads its verdicts, and hears of the promotion.
//
//     java -cp kafka-clients.jar:slf4j-api.jar:... Pipeline.java BOOTSTRAP [PREFIX] [MODEL]
//
// An acknowledgement from Kafka means *proposed*. What became of it is the verdict, in the same partition
// of PREFIX.verdicts; what was accepted is history. Nothing here knows of Annals but the topics' names.

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Pipeline {
    private static final Duration POLL = Duration.ofSeconds(1);
    private static final int POLLS_MAX = 60;
    private static final String SOURCE = "/pipelines/example-java";

    private final String bootstrap;
    private final String prefix;
    private final KafkaProducer<String, String> producer;
    private final KafkaConsumer<String, String> verdicts;
    private final Map<TopicPartition, Long> begin;

    Pipeline(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        // Java's own partitioner is the right one: do not set another
        producer = new KafkaProducer<>(
                Map.of("bootstrap.servers", bootstrap, "enable.idempotence", "true"), new StringSerializer(), new StringSerializer());
        verdicts = consumer(SOURCE + "-" + UUID.randomUUID());
        List<TopicPartition> partitions = new ArrayList<>();
        verdicts.partitionsFor(prefix + ".verdicts").forEach(info -> partitions.add(new TopicPartition(info.topic(), info.partition())));
        // from now on: a verdict may be there before Kafka has acknowledged its proposal to us
        begin = verdicts.endOffsets(partitions);
    }

    /** A consumer that sees only what was committed: Java's default is to see aborted messages, too. */
    private KafkaConsumer<String, String> consumer(String group) {
        return new KafkaConsumer<>(
                Map.of("bootstrap.servers", bootstrap, "group.id", group, "isolation.level", "read_committed",
                        "auto.offset.reset", "earliest", "enable.auto.commit", "false"),
                new StringDeserializer(), new StringDeserializer());
    }

    /** Publishes one event and returns its verdict, as JSON. Send it again with the same id after any doubt. */
    String propose(String kind, String subject, String data) throws Exception {
        String[] parts = subject.split("/");
        var record = new ProducerRecord<>(prefix + ".proposals", parts[0] + "/" + parts[1], data);
        Map.of("content-type", "application/json", "ce_specversion", "1.0", "ce_id", UUID.randomUUID().toString(),
                        "ce_source", SOURCE, "ce_type", "dev.annals." + kind + ".v1", "ce_subject", subject)
                .forEach((name, value) -> record.headers().add(name, value.getBytes(UTF_8)));
        var proposed = producer.send(record).get();
        var partition = new TopicPartition(prefix + ".verdicts", proposed.partition());
        verdicts.assign(List.of(partition));
        verdicts.seek(partition, begin.get(partition));
        for (int i = 0; i < POLLS_MAX; i++) {
            for (ConsumerRecord<String, String> found : verdicts.poll(POLL)) {
                // any JSON library reads it; the example has none
                if (found.value().startsWith("{\"src\":" + proposed.offset() + ",")) {
                    return found.value();
                }
            }
        }
        throw new IllegalStateException("no verdict came: is an engine with the role `arbiter` running?");
    }

    /** Waits for the promotion of a subject; each comes at least once, with an id that never changes. */
    String promotion(String subject) {
        try (KafkaConsumer<String, String> promotions = consumer(SOURCE + "-" + UUID.randomUUID())) {
            promotions.subscribe(List.of(prefix + ".promotions"));
            for (int i = 0; i < POLLS_MAX; i++) {
                for (ConsumerRecord<String, String> found : promotions.poll(POLL)) {
                    if (subject.equals(header(found, "ce_subject"))) {
                        promotions.commitSync(); // only now: what was not handled comes again
                        return header(found, "ce_type") + " " + header(found, "ce_id") + " " + found.value();
                    }
                }
            }
        }
        throw new IllegalStateException("no promotion came: is an engine with the role `publisher` running?");
    }

    private static String header(ConsumerRecord<String, String> record, String name) {
        return new String(record.headers().lastHeader(name).value(), UTF_8);
    }

    public static void main(String[] arguments) throws Exception {
        String prefix = arguments.length > 1 ? arguments[1] : "annals";
        String model = arguments.length > 2 ? arguments[2] : "java-iris";
        var pipeline = new Pipeline(arguments[0], prefix);
        String artifact = "{\"uri\":\"s3://models/iris/1.pkl\",\"digest\":\"sha256:" + "0".repeat(63) + "1\",\"format\":\"joblib\"}";
        System.out.println(pipeline.propose("version.registered", "default/" + model, "{\"artifact\":" + artifact + "}"));
        System.out.println(pipeline.propose("version.promoted", "default/" + model + "/1", "{\"channel\":\"staging\"}"));
        System.out.println(pipeline.propose("version.promoted", "default/" + model + "/99", "{\"channel\":\"staging\"}"));
        System.out.println(pipeline.promotion("default/" + model + "/1"));
        pipeline.producer.close();
        pipeline.verdicts.close();
    }
}
