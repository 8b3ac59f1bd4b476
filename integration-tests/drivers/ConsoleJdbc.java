// JDBC at the console, and the queries by which DBeaver opens a connection.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Objects;
import java.util.Properties;

public class ConsoleJdbc {
    static void expect(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError("got " + got + " instead of " + wanted);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Class.forName("org.postgresql.Driver");
        String url = "jdbc:postgresql://localhost:" + System.getenv("MULTIDB_PORT")
            + "/multidb?sslmode=verify-full&sslrootcert=" + System.getenv("MULTIDB_CA");
        Properties properties = new Properties();
        properties.setProperty("user", "user:alice");
        properties.setProperty("password", System.getenv("MULTIDB_PASSWORD"));
        try (Connection session = DriverManager.getConnection(url, properties)) {
            expect(session.isValid(5), true);
            // The driver names a statement on the server, and asks for binary rows, from its fifth execution on.
            try (PreparedStatement statement = session.prepareStatement("show instance ?")) {
                for (int number = 0; number < 10; number++) {
                    statement.setString(1, "drivers");
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        expect(rows.getString("name"), "drivers");
                        expect(rows.getBoolean("pinned"), false);
                        expect(rows.getLong("connections") >= 0, true);
                        expect(rows.getTimestamp("created_at") != null, true);
                    }
                }
            }
            session.setAutoCommit(false);
            try (Statement statement = session.createStatement()) {
                statement.execute("pin instance drivers");
            }
            session.rollback();
            session.setAutoCommit(true);
            expect(one(session, "show instance drivers", "pinned"), true);
            dbeaver(session);
        }
    }

    static Object one(Connection session, String sql, String column) throws SQLException {
        try (Statement statement = session.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getObject(column);
        }
    }

    /** What is about the session has an answer; what reads a catalog is refused, and the session goes on. */
    static void dbeaver(Connection session) throws SQLException {
        try (Statement statement = session.createStatement()) {
            statement.execute("SET application_name = 'DBeaver - Main'");
            statement.execute("SELECT current_schema(),session_user");
            statement.execute("SELECT version()");
            statement.execute("SHOW search_path");
            for (String catalog : new String[] {
                "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname = 'multidb'",
                "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n",
            }) {
                try {
                    statement.execute(catalog);
                    throw new AssertionError(catalog + " had an answer");
                } catch (SQLException refused) {
                    expect(refused.getSQLState(), "42601");
                }
            }
            statement.execute("show help");
        }
    }
}
